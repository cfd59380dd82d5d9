"""The command line: our own options and words, then `APP [TOOL …]`."""

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any

import click

from tasak import __version__
from tasak.cli import output
from tasak.cli.apps import call_tool, list_apps, list_tools
from tasak.cli.asked import Asked, Launcher
from tasak.cli.auth_commands import auth
from tasak.cli.daemon_commands import daemon
from tasak.cli.diagnosis_commands import connections, metrics, ping, plugins
from tasak.cli.doctor_command import doctor
from tasak.cli.lock_command import lock
from tasak.cli.options import Seconds, with_json
from tasak.cli.outcome_command import outcome
from tasak.cli.read_command import read
from tasak.cli.trust_command import trust
from tasak.client.fast import Handover
from tasak.errors import BadArguments, Cancelled, InternalError, TasakError, UnknownApp
from tasak.failure import kind
from tasak.wire import LONGEST_TIMEOUT, RESERVED

# What is typed by those who expect such a command.
INSTEAD = {
    "call": "a call is `tasak APP TOOL --flag …`; ",
    "list": "`tasak` lists the apps, and `tasak APP` the tools of one; ",
}

# Behind an app: its tools.
HELP = (["--help"], ["-h"])

LAUNCHERS: dict[Launcher, str] = {"native": "native", "python": "Python"}


class AppGroup(click.Group):
    """Our commands by name; every other first word is an app's."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        given = list(args)
        rest = super().parse_args(ctx, args)
        left = len(ctx.args) + len(ctx._protected_args)  # noqa: SLF001 - click 8 keeps the first word there
        # `tasak -- NAME` means an app, whatever it is called.
        asked: Asked = ctx.ensure_object(Asked)
        asked.is_exact = given[len(given) - left - 1 : len(given) - left] == ["--"]
        return rest

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        asked: Asked = ctx.ensure_object(Asked)
        if asked.is_exact or args[0] not in RESERVED:
            return args[0], app_command, args
        asked.drop_reply()
        if args[0] not in self.commands:
            instead = INSTEAD.get(args[0], "")
            raise UnknownApp(
                f"{args[0]} is a word of ours, kept for later",
                fix=f"{instead}`tasak -- {args[0]}` means an app of that name",
            )
        return super().resolve_command(ctx, args)


@click.group(
    cls=AppGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("--json", "wants_json", is_flag=True, help="One JSON document on stdout, errors included.")
@click.option(
    "--timeout",
    type=Seconds(0, LONGEST_TIMEOUT, min_open=True),
    metavar="SECONDS",
    help="How long the tool may be silent (default 30).",
)
@click.option("--session", metavar="NAME", help="A session of your own, apart from other callers'.")
@click.option("--call-id", metavar="ID", help="A name for this call: under it the tool runs once.")
@click.option("--no-daemon", is_flag=True, help="Call directly; nothing stays warm.")
@click.option("--debug", is_flag=True, help="Call directly, show timings and tracebacks.")
@click.version_option(__version__, message="tasak %(version)s", help="Show the version and exit.")
@click.pass_context
def cli(ctx: click.Context, /, **options: Any) -> None:
    """Call the tools of your MCP servers; they stay warm between commands.

    \b
    tasak                     the apps that are configured
    tasak APP                 the tools of one
    tasak APP TOOL --help     what a tool takes
    tasak APP TOOL --flag …   call it

    Exit status: 0 ok, 1 internal error, 2 usage or config, 3 sign-in needed, 4 not executed, 5 the tool said error,
    6 outcome unknown (it may have run), 7 input needed, 8 denied, 130 cancelled.
    """
    asked: Asked = ctx.ensure_object(Asked)
    asked.update(options)
    if ctx.invoked_subcommand is None:
        ctx.exit(list_apps(asked))


@click.command(
    add_help_option=False, context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def app_command(asked: Asked, words: Sequence[str]) -> int:
    """One app: its tools, or a call of one."""
    app, *rest = words
    if not app:
        raise UnknownApp("no app is named: the first word is empty", fix="`tasak` lists the apps")
    if not rest or rest in HELP:
        return list_tools(asked, app)
    return call_tool(asked, app, rest[0], rest[1:])


@cli.command()
@with_json
@click.pass_obj
def version(asked: Asked) -> int:
    """Say which version this is, and which launcher runs."""
    if asked.wants_json:
        output.print_json(
            {
                "version": __version__,
                "python": sys.version.split()[0],
                "launcher": asked.launcher,
            }
        )
    else:
        output.print_line(f"tasak {__version__} ({LAUNCHERS[asked.launcher]} launcher)")
    return 0


@cli.command(name="help")
@with_json
@click.pass_context
def show_help(ctx: click.Context) -> int:
    """Show this."""
    text = cli.get_help(ctx.find_root())
    if ctx.obj.wants_json:
        output.print_json({"help": text})
    else:
        output.print_line(text)
    return 0


for command in (auth, daemon, doctor, lock, ping, connections, metrics, outcome, plugins, read, trust):
    cli.add_command(command)


def main(words: list[str], handover: Handover, launcher: Launcher = "python") -> int:
    """Run the command line; the exit status."""
    output.keep_closed()
    try:
        with redirect_stdout(output.Printed()):
            return run(words, Asked(handover=handover, launcher=launcher))
    except output.ReaderGone:
        return output.quiet_end()
    except output.CannotWrite as problem:
        output.say(str(problem))
        return InternalError.exit_status


def run(words: list[str], asked: Asked) -> int:
    """The same.

    Raises:
        ReaderGone, CannotWrite: what it came to is not written.
    """
    try:
        status = cli.main(args=words, prog_name="tasak", standalone_mode=False, obj=asked)
    except (output.ReaderGone, output.CannotWrite):
        raise
    except click.ClickException as problem:
        return output.print_error(misused(problem), wants_json="--json" in words)
    except (KeyboardInterrupt, click.Abort):
        return output.print_error(Cancelled("cancelled"), wants_json=asked.wants_json)
    except TasakError as problem:
        if asked.debug:
            output.tell_traceback(problem)
        return output.print_error(problem, wants_json=asked.wants_json)
    except Exception as problem:  # noqa: BLE001 - the top of the process
        if asked.debug:
            output.tell_traceback(problem)
        return output.print_error(
            InternalError(f"a bug in tasak: {kind(problem)}", fix="`tasak --debug …` shows where"),
            wants_json=asked.wants_json,
        )
    return status if isinstance(status, int) else 0


def misused(problem: click.ClickException) -> BadArguments:
    """What click refused, with where to look; a group without one of its commands is told what they are."""
    context = getattr(problem, "ctx", None)
    path = context.command_path if context else "tasak"
    message, fix = problem.format_message(), f"see `{path} --help`"
    if context and context.parent and isinstance(context.command, click.Group):
        fix = f"there are: {', '.join(context.command.list_commands(context))}; {fix}"
        if isinstance(problem, click.exceptions.NoArgsIsHelpError):
            message = f"{context.info_name}: which command?"
    return BadArguments(message, fix=fix)
