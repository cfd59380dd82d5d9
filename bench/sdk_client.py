"""The mcp SDK in a process of its own: what a call costs without us."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.home import Failed, Home

SCRIPT = Path(__file__).with_name("sdk_script.py")


def command_of(server: Sequence[str], tool: str, arguments: Mapping[str, Any]) -> list[str]:
    """The command that starts the server, calls the tool once, and prints what it answers."""
    return [sys.executable, "-P", str(SCRIPT), tool, json.dumps(arguments), *server]


class SdkClient:
    """A warm client of its own server, which makes calls when it is told to."""

    def __init__(self, home: Home, server: Sequence[str], tool: str, arguments: Mapping[str, Any]) -> None:
        self._process = subprocess.Popen(
            command_of(server, tool, arguments),
            env=home.env,
            cwd=home.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        self._line()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is not None:
            self._process.kill()
        self._process.communicate()

    def seconds(self, calls: int) -> float:
        """The least of so many calls."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{calls}\n")
        self._process.stdin.flush()
        return float(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None
        if not (line := self._process.stdout.readline()):
            raise Failed("the SDK's client is gone")
        return line
