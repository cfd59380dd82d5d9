"""`tasak trust`: which projects' config files have the user's word."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from tasak.cli import output
from tasak.cli.asked import Asked, working_directory
from tasak.cli.options import with_json
from tasak.errors import BadArguments
from tasak.paths import StateDir


@click.command()
@click.argument("folder", metavar="[DIR]", required=False)
@click.option("--revoke", is_flag=True, help="Trust it no longer.")
@with_json
@click.pass_obj
def trust(asked: Asked, folder: str | None, revoke: bool) -> int:
    """Trust the config file of DIR as it is now; without DIR, list what is trusted.

    A project's file needs it to define an app that a farther file defines, too, and for `tasak read`. Read the file
    first: what it says is run as you. When it changes, it has to be trusted anew.
    """
    # Lazy: a command that calls must not pay for it.
    from tasak.core.trust import TrustBook

    book = TrustBook(StateDir.of_user())
    if folder is None:
        if revoke:
            raise BadArguments("--revoke of what?", fix="tasak trust --revoke DIR")
        return show(asked, book.found())
    path = place(folder)
    if revoke:
        return say(asked, "no longer trusted", "revoked", book.revoke(path))
    return say(asked, "trusted as it is now", "trusted", [str(book.trust(path).path)])


def place(named: str) -> Path:
    """
    Raises:
        BadArguments: it names nothing.
    """
    if not named:
        raise BadArguments("'' names no folder", fix="tasak trust . means the one that you stand in")
    if not os.path.isabs(named) and working_directory() is None:
        raise BadArguments(f"there is no working directory for {named!r} to begin in", fix="name it from / on")
    return Path(os.path.abspath(named))


def show(asked: Asked, found: Mapping[str, str]) -> int:
    if asked.wants_json:
        output.print_json({"files": [{"file": file, "state": state} for file, state in found.items()]})
    else:
        output.print_table(("file", "state"), list(found.items()))
    return 0


def say(asked: Asked, what: str, key: str, files: Sequence[str]) -> int:
    if asked.wants_json:
        output.print_json({key: list(files)})
    for file in () if asked.wants_json else files:
        output.print_line(f"{what}: {file}")
    return 0
