"""The tools of `stdio_server`, for servers that live in the test's own loop."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from mcp_types import INVALID_PARAMS

from tasak.testing.witness import Witness

Message = dict[str, Any]
Report = Callable[[int, int], None]
"""Tells the caller that so many steps of so many are done."""

TEXT = {"type": "string"}
INTEGER = {"type": "integer"}
NUMBER = {"type": "number"}

# Each tool's parameters; all of them are required.
PARAMETERS: Mapping[str, Mapping[str, Message]] = {
    "echo": {"text": TEXT},
    "counter": {},
    "sleep": {"seconds": NUMBER},
    "progress": {"steps": INTEGER, "seconds": NUMBER},
    "big": {"size": INTEGER},
    "fail": {"reason": TEXT},
    "refuse": {"code": INTEGER},
    "die": {"status": INTEGER},
}


class Refused(Exception):
    """The answer is a JSON-RPC error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Tools:
    """One set of tools with a memory of its own, `listed` so. `die` ends the server, as a crash would."""

    def __init__(self, witness: Witness, *, listed: Sequence[Message], die: Callable[[], Awaitable[None]]) -> None:
        self.witness = witness
        self.listed = listed
        self._die = die
        self._count = 0

    async def call(self, name: str, given: Mapping[str, Any], report: Report) -> Message:
        """The tool's result.

        Raises:
            Refused: it has none.
        """
        if name not in PARAMETERS:
            raise Refused(INVALID_PARAMS, f"no tool {name}")
        if missing := [each for each in PARAMETERS[name] if each not in given]:
            raise Refused(INVALID_PARAMS, f"{name} lacks {', '.join(missing)}")
        self.witness.note(name)
        return await self._run(name, given, report)

    async def _run(self, name: str, given: Mapping[str, Any], report: Report) -> Message:
        match name:
            case "counter":
                self._count += 1
                return text(str(self._count))
            case "sleep":
                await asyncio.sleep(given["seconds"])
                return text("slept")
            case "progress":
                for step in range(given["steps"]):
                    await asyncio.sleep(given["seconds"])
                    report(step + 1, given["steps"])
                return text("done")
            case "big":
                return text("x" * given["size"])
            case "fail":
                return text(given["reason"], is_error=True)
            case "refuse":
                raise Refused(given["code"], "refused")
            case "die":
                await self._die()
        return text(given.get("text", ""))


def described() -> list[Message]:
    return [describe(name, properties) for name, properties in PARAMETERS.items()]


def describe(name: str, properties: Mapping[str, Message]) -> Message:
    schema = {"type": "object", "properties": dict(properties), "required": list(properties)}
    return {"name": name, "description": f"The tool {name}.", "inputSchema": schema}


def text(content: str, *, is_error: bool = False) -> Message:
    return {"content": [{"type": "text", "text": content}], "isError": is_error}
