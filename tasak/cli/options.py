"""Options that several commands take."""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import click

from tasak.cli.asked import Asked

Command = TypeVar("Command", bound=Callable[..., Any])


class Seconds(click.FloatRange):
    """A number of seconds in a range, which click takes NaN to be in."""

    name = "number of seconds"  # stands in the error's text

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        seconds: float = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value!r} is not a valid {self.name}.", param, ctx)
        return seconds


class AppName(click.types.StringParamType):
    """A word that names an app: not an empty one, which would mean every app, or a route that is not there."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not value:
            self.fail("an empty word names no app.", param, ctx)
        return super().convert(value, param, ctx)


APP_NAME = AppName()


def with_json(command: Command) -> Command:
    """`--json` behind the command's name, too."""

    def note(ctx: click.Context, _: click.Parameter, value: bool) -> None:
        asked: Asked = ctx.ensure_object(Asked)
        asked.wants_json = asked.wants_json or value

    help_text = "One JSON document on stdout."
    return click.option("--json", is_flag=True, expose_value=False, callback=note, help=help_text)(command)
