"""The `curated` transport: tools that the user makes of other apps' tools and of commands, step by step.

    tools:
      ship:
        description: Tag a version and announce it
        parameters: {type: object, properties: {version: {type: string}}, required: [version]}
        steps:
          - {app: git, tool: git_create_branch, arguments: {branch_name: "release-${args.version}"}}
          - {command: [./scripts/build.sh, "${args.version}"]}
          - {app: chat, tool: post, arguments: {text: "built: ${steps.1.text}"}}

`${args.NAME}` is an argument, `${args.NAME.KEY.0}` what lies in it, `${steps.N.text}` the text that an earlier step
answered, and `${steps.N.structured.KEY}` what lies in its `structuredContent`. A text that is one template and nothing
else becomes the value itself; in a longer one the value is put in as text. An argument that was not given leaves its
key or item out, and no text in a longer one. A name that `parameters` does not declare is refused, unless these say
that others may be given (`additionalProperties` and the like).
"""

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasak.plugin import AppConfig, Host, NotExecuted, OnProgress, ServerError, Session, SessionLost, hookimpl
from tasak.transports.child import environment
from tasak.transports.commands import Place
from tasak.transports.curated_run import Means, Run
from tasak.transports.curated_tools import CuratedTool, read_tools

PING_TIMEOUT = 5.0

NAME = {"type": "string", "minLength": 1}

STEP = {
    "type": "object",
    "if": {"required": ["command"]},
    "then": {
        "properties": {
            "command": {
                "description": "A program and its arguments; no shell reads them",
                "type": "array",
                "items": {"type": ["string", "number"]},
                "minItems": 1,
            },
        },
        "additionalProperties": False,
    },
    "else": {
        "properties": {"app": NAME, "tool": NAME, "arguments": {"type": "object"}},
        "required": ["app", "tool"],
        "additionalProperties": False,
    },
}

TOOL = {
    "type": "object",
    "properties": {
        "description": {"type": "string"},
        "parameters": {
            "description": "What the tool takes: a JSON Schema",
            "type": "object",
            "properties": {"type": {"const": "object"}},
        },
        "steps": {"type": "array", "items": STEP, "minItems": 1},
        "retry": {"description": "As for the tools of any app", "enum": ["safe", "never"]},
        "read_only": {"description": "As for the tools of any app", "type": "boolean"},
    },
    "required": ["steps"],
    "additionalProperties": False,
}

SCHEMA = {
    "type": "object",
    "properties": {
        "tools": {
            "description": "The tools by name",
            "format": "template",
            "type": "object",
            "additionalProperties": TOOL,
        },
    },
    "required": ["tools"],
    "additionalProperties": False,
}


class CuratedSession(Session):
    """The tools of one app. There is no peer: it ends when it is closed."""

    def __init__(self, tools: Mapping[str, CuratedTool], means: Means) -> None:
        self.ended = asyncio.Event()
        self.pid = None
        self.protocol_version = None
        self.server_info = None
        self._tools = tools
        self._means = means

    async def request(
        self,
        method: str,
        params: Mapping[str, Any] | None,
        *,
        timeout: float,  # noqa: ASYNC109 - it starts anew at each step, and at each progress notification
        on_progress: OnProgress | None = None,
    ) -> dict[str, Any]:
        if self.ended.is_set():
            raise NotExecuted("the session is closed")
        match method:
            case "ping":
                return {}
            case "tools/list":
                return {"tools": [tool.listed() for tool in self._tools.values()]}
            case "tools/call":
                given = params or {}
                tool = self._tool(given.get("name"))
                arguments = tool.checked(given.get("arguments") or {})
                run = Run(tool, arguments, self._means, timeout=timeout, on_progress=on_progress)
                return await self._until_closed(run)
        raise ServerError(f"there is no method {method!r} (JSON-RPC error -32601)")

    async def _until_closed(self, run: Run) -> dict[str, Any]:
        """What comes of the run, unless the session is closed meanwhile."""
        running = asyncio.ensure_future(run.result())
        closing = asyncio.ensure_future(self.ended.wait())
        try:
            await asyncio.wait([running, closing], return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                raise SessionLost("the session was closed")
            return running.result()
        finally:
            closing.cancel()
            running.cancel()
            # A command that is cancelled is ended, which takes its time.
            await asyncio.wait([running])

    def last_words(self) -> Sequence[str]:
        return ()

    def _tool(self, name: Any) -> CuratedTool:
        if name not in self._tools:
            raise ServerError(f"there is no tool {name!r} (JSON-RPC error -32602)")
        return self._tools[name]


@hookimpl
def transport_schema() -> dict[str, Any]:
    return SCHEMA


@hookimpl
def parts(options: Mapping[str, Any]) -> Sequence[str]:
    steps = [step for tool in options["tools"].values() for step in tool["steps"]]
    return list(dict.fromkeys(step["app"] for step in steps if "app" in step))


@hookimpl
def connect(app: AppConfig, host: Host) -> CuratedSession:
    directory = app.directory or Path(os.path.sep)
    place = Place(
        directory=directory,
        program_folder=app.program_folder or directory,
        path=app.path,
        environment=environment(app, host.instance),
    )
    return CuratedSession(read_tools(app.name, app.options["tools"]), Means(host=host, place=place))


@hookimpl
async def ping(session: CuratedSession) -> None:
    await session.request("ping", None, timeout=PING_TIMEOUT)


@hookimpl
def close(session: CuratedSession) -> None:
    session.ended.set()
