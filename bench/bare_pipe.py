"""A server on its pipe, with nothing between: what of a call is the server's own."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from time import perf_counter
from types import TracebackType
from typing import Any, Self

from bench.home import Failed, Home

VERSION = "2025-11-25"
GREETING = {"protocolVersion": VERSION, "capabilities": {}, "clientInfo": {"name": "bench", "version": "0"}}


class BarePipe:
    """A running server, and one call of a tool of its that is made again and again."""

    def __init__(self, home: Home, server: Sequence[str], tool: str, arguments: Mapping[str, Any]) -> None:
        self._call = message(id=1, method="tools/call", params={"name": tool, "arguments": arguments})
        self._process = subprocess.Popen(
            server, env=home.env, cwd=home.folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )

    def __enter__(self) -> Self:
        self._ask(message(id=0, method="initialize", params=GREETING))
        self._send(message(method="notifications/initialized"))
        if b'"isError":true' in self._ask(self._call).replace(b" ", b""):
            raise Failed("the server answers with an error")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()

    def seconds(self) -> float:
        """From the first byte of the request to the last of its answer."""
        began = perf_counter()
        self._ask(self._call)
        return perf_counter() - began

    def _ask(self, line: bytes) -> bytes:
        assert self._process.stdout is not None
        self._send(line)
        if not (answer := self._process.stdout.readline()):
            raise Failed("the server is gone")
        return answer

    def _send(self, line: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line)


def message(**members: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **members}).encode() + b"\n"
