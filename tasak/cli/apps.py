"""`tasak`, `tasak APP` and `tasak APP TOOL …`."""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace

from tasak.cli import output
from tasak.cli.asked import Asked, working_directory
from tasak.cli.direct import Direct
from tasak.core.gateway import Request
from tasak.core.signature import signature
from tasak.errors import BadArguments
from tasak.inert import inert


def list_apps(asked: Asked) -> int:
    """One line an app: name, transport, state, description."""
    found = Direct().apps(working_directory(), dict(os.environ))
    output.notices(found["notices"])
    if asked.wants_json:
        output.print_json(found)
        return 0
    for app in found["apps"]:
        line = "\t".join([app["name"], app["transport"] or "?", app["state"], app["error"] or app["description"] or ""])
        output.write_all(output.STDOUT, inert(line.expandtabs(16)).rstrip().encode("utf-8", "replace") + b"\n")
    return 0


def list_tools(asked: Asked, app: str) -> int:
    """One signature a line."""
    listed = Direct().list_tools(asked.request(app))
    if asked.wants_json:
        output.print_json({"app": app, "tools": list(listed.tools)})
    else:
        text = "".join(f"{signature(tool)}\n" for tool in listed.tools)
        output.write_all(output.STDOUT, text.encode("utf-8", "replace"))
    return 0


def call_tool(asked: Asked, app: str, tool: str, argv: Sequence[str]) -> int:
    """Call it, print what it answers, and leave with its exit status."""
    request = with_input(asked.request(app, tool, argv))
    reply = Direct().call(request)
    output.notices(reply.notices)
    output.write_all(output.STDOUT, reply.body)
    return reply.exit_status


def with_input(request: Request) -> Request:
    """The request with what `--args @file` or `--args -` names in its place: only the caller can read it."""
    return replace(request, argv=list(read_inputs(request.argv)))


def read_inputs(argv: Sequence[str]) -> Sequence[str]:
    words = list(argv)
    for place, word in enumerate(words):
        if word == "--args" and place + 1 < len(words):
            words[place + 1] = read_input(words[place + 1])
        elif word.startswith("--args="):
            words[place] = "--args=" + read_input(word.removeprefix("--args="))
    return words


def read_input(source: str) -> str:
    try:
        if source == "-":
            return sys.stdin.read()
        if source.startswith("@"):
            with open(source[1:], encoding="utf-8") as file:
                return file.read()
    except (OSError, UnicodeDecodeError) as problem:
        raise BadArguments(f"--args {source} cannot be read: {problem}") from problem
    return source
