"""The `stdio` transport: a program on this machine that speaks MCP over its stdin and stdout."""

import os
from typing import Any

from tasak.plugin import AppConfig, Host, McpSession, hookimpl
from tasak.transports.child import Child, environment
from tasak.transports.stderr import StderrLog

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
    await session.ping(PING_TIMEOUT)


@hookimpl
async def close(session: McpSession) -> None:
    await session.aclose()
