"""Options that several commands take."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from tasak.cli.asked import Asked

Command = TypeVar("Command", bound=Callable[..., Any])


def with_json(command: Command) -> Command:
    """`--json` behind the command's name, too."""

    def note(ctx: click.Context, _: click.Parameter, value: bool) -> None:
        asked: Asked = ctx.ensure_object(Asked)
        asked.wants_json = asked.wants_json or value

    help_text = "One JSON document on stdout."
    return click.option("--json", is_flag=True, expose_value=False, callback=note, help=help_text)(command)
