"""`tasak read`: the calls that change nothing, for an agent that is allowed this one prefix of all commands."""

from collections.abc import Sequence

import click

from tasak.cli.apps import call_tool, list_tools
from tasak.cli.asked import Asked
from tasak.cli.options import APP_NAME, with_json
from tasak.errors import BadArguments


@click.command(context_settings={"allow_interspersed_args": False})
@with_json
@click.argument("app", metavar="APP", type=APP_NAME)
@click.argument("words", metavar="[TOOL …]", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def read(asked: Asked, app: str, words: Sequence[str]) -> int:
    """Call a tool that changes nothing, or list those of an app.

    A tool is called if your config declares it read-only (`tools: {NAME: {read_only: true}}`), or if its server does
    and the config says `trusted: true` of the app. The app has to stand in your own file, or in one that you trust
    (`tasak trust DIR`). All else is denied, with exit 8, before anything is sent.
    """
    asked.read_only = True
    # What stands here is an app, whatever our own words are.
    asked.is_exact = True
    if not words or list(words) in (["--help"], ["-h"]):
        return list_tools(asked, app)
    tool, *argv = words
    if tool.startswith("-"):
        raise BadArguments(f"{tool} stands where the tool's name belongs", fix="tasak read APP TOOL --flag …")
    return call_tool(asked, app, tool, argv)
