"""The `stdio` transport: a program on this machine that speaks MCP over its stdin and stdout."""

import os
from collections.abc import Mapping
from typing import Any

from tasak.plugin import AppConfig, Host, McpSession, hookimpl
from tasak.transports.child import Child
from tasak.transports.stderr import StderrLog

# What a program needs to find its way; everything else is the config's to name.
INHERITED = ("HOME", "USER", "LOGNAME", "SHELL", "TERM", "LANG")

PING_TIMEOUT = 5.0

SCHEMA = {
    "type": "object",
    "properties": {
        "command": {
            "description": "The program and its arguments: a string (split like a shell's, never run by one) or a list",
            "format": "command",
            "type": ["string", "array"],
            "items": {"type": ["string", "number"]},
            "minItems": 1,
            "minLength": 1,
        },
        "args": {"description": "More arguments", "type": "array", "items": {"type": ["string", "number"]}},
        "env": {
            "description": "Environment variables for the program",
            "type": "object",
            "additionalProperties": {"type": ["string", "number"]},
        },
    },
    "required": ["command"],
    "additionalProperties": False,
}


@hookimpl
def transport_schema() -> dict[str, Any]:
    return SCHEMA


@hookimpl
async def connect(app: AppConfig, host: Host) -> McpSession:
    child = await Child.spawn(
        app.options["command"],
        environment=environment(app, host.instance),
        directory=app.directory or os.path.sep,
        stderr=StderrLog(host.app_log),
    )
    return await host.mcp_session(child.read, child.write, child)


@hookimpl
async def ping(session: McpSession) -> None:
    await session.request("ping", None, timeout=PING_TIMEOUT)


@hookimpl
async def close(session: McpSession) -> None:
    await session.aclose()


def environment(app: AppConfig, instance: str) -> Mapping[str, str]:
    """The child's whole environment. `TASAK_TREE` marks what this daemon started, for a later one to find."""
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    named = {name: str(value) for name, value in app.options.get("env", {}).items()}
    return {**inherited, "PATH": app.path, **named, "TASAK_TREE": instance}
