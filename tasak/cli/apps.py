"""`tasak`, `tasak APP` and `tasak APP TOOL …`."""

import os
from collections.abc import Sequence
from dataclasses import replace

from tasak.cli import output
from tasak.cli.asked import Asked, working_directory
from tasak.cli.road import travel
from tasak.errors import TOOL_ERROR_EXIT, BadArguments, BadRequest, Denied, NeedsInput
from tasak.request import Reply, Request
from tasak.wire import MAX_BODY

STDIN = 0


def list_apps(asked: Asked) -> int:
    """One line an app: name, transport, state, and what it is."""
    found = travel(asked, lambda road: road.apps(working_directory(), os.environ), starts=False)
    output.notices(found["notices"])
    if asked.wants_json:
        output.print_json(found)
    else:
        rows = [
            (app["name"], app["transport"] or "?", app["state"], app["error"] or app["description"] or "")
            for app in found["apps"]
        ]
        output.print_table(("app", "transport", "state", ""), rows)
    return 0


def list_tools(asked: Asked, app: str) -> int:
    """One signature a line."""
    request = asked.request(app)
    found = travel(asked, lambda road: road.list_tools(request))
    output.notices(found["notices"])
    if asked.wants_json:
        output.print_json({"app": app, **{name: list(found[name]) for name in ("tools", "notices", "blocked")}})
        return 0
    # Lazy: a call needs no signature.
    from tasak.core.signature import signatures

    for line in signatures(found["tools"]):
        output.print_line(line)
    return 0


def call_tool(asked: Asked, app: str, tool: str, argv: Sequence[str]) -> int:
    """Call it, print what it answers; its exit status."""
    if not tool:  # as the daemon says it
        raise BadRequest("no tool is named: 'tool' is empty")
    request = asked.request(app, tool, argv)
    try:
        reply = travel(asked, lambda road: road.call(request))
    except NeedsInput:
        full = with_input(request)
        reply = travel(asked, lambda road: road.call(full))
    output.notices(reply.notices)
    print_reply(request, reply)
    return reply.exit_status


def print_reply(request: Request, reply: Reply) -> None:
    """Raises `CannotWrite`, which then says that the call was made: nobody should repeat it for want of its result."""
    is_answer = reply.exit_status in (0, TOOL_ERROR_EXIT)
    if not is_answer and not request.wants_json:
        output.tell(reply.body)
        return
    try:
        output.write_all(output.STDOUT, reply.body)
    except output.CannotWrite as problem:
        # With `--help` among its words it may have been no call.
        if is_answer and "--help" not in request.argv:
            raise output.CannotWrite(f"{problem.reason}; the call was executed") from problem
        raise


def with_input(request: Request) -> Request:
    """The request with what `--args @file` or `--args -` names in its place: only the caller can read it."""
    words = list(request.argv)
    for place, word in enumerate(words):
        if word == "--args" and place + 1 < len(words):
            words[place + 1] = read_input(words[place + 1], request)
        elif word.startswith("--args="):
            words[place] = "--args=" + read_input(word.removeprefix("--args="), request)
    return replace(request, argv=words)


def read_input(source: str, request: Request) -> str:
    """What stands at `-` (stdin) or `@FILE`; anything else is the input itself."""
    if source != "-" and not source.startswith("@"):
        return source
    if source != "-" and request.read_only:
        raise Denied(
            f"--args {source}: `tasak read` hands no file of yours to a tool",
            fix="give the JSON itself, or --args - for stdin",
        )
    try:
        # Not `sys.stdin`, which is None where there is none.
        with open(STDIN if source == "-" else source[1:], encoding="utf-8", closefd=source != "-") as file:
            text = file.read(MAX_BODY + 1)
    except (OSError, ValueError) as problem:
        why = problem.strerror if isinstance(problem, OSError) else problem
        raise BadArguments(f"--args {source} cannot be read: {why}") from problem
    if len(text) > MAX_BODY:
        raise BadArguments(f"--args {source} is more than the {MAX_BODY >> 20} MiB that a call can carry")
    return text
