"""What the caller of an app is told of its command: that it runs whatever version of a package is the newest."""

from collections.abc import Sequence

from tasak.core.app import App
from tasak.core.doctor import apps, packages


def unpinned(app: App) -> Sequence[str]:
    """A line for each package whose version the config leaves open, with the form that pins it."""
    return [
        f"{each.what}; {each.fix}"
        for command in apps.commands_of(app.source)
        for each in packages.findings(command, app.name)
    ]
