"""A call that nobody waits for any more is cancelled at its server: on every transport, in both eras of MCP."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.reliability.world import PATIENCE, World
from tests.shell import FAST_APP, hear_interrupts, until

pytestmark = pytest.mark.slow

# Seconds in which the server is to hear of it.
SOON = 1.0

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGKILL]
TIMEOUT = 0.5

# One that sleeps by way of another app.
CURATED = {
    "transport": "curated",
    "tools": {
        "sleep": {
            "parameters": {"type": "object", "properties": {"seconds": {"type": "number"}}},
            "steps": [{"app": "there", "tool": "sleep", "arguments": {"seconds": "${args.seconds}"}}],
        }
    },
}


class Place:
    """A server that is reached in one way, and the witness of what it was told."""

    def __init__(self, world: World, app: str) -> None:
        self.world = world
        self.app = app

    def says(self) -> list[str]:
        return self.world.witness.read_text().split() if self.world.witness.exists() else []

    def sleep(self, *options: str) -> "subprocess.Popen[bytes]":
        """The command, when its call is under way."""
        call = self.world.start(*options, self.app, "sleep", "--seconds", "60", preexec_fn=hear_interrupts)
        until(lambda: self.says() == ["sleep"])
        return call

    def hears_of_it(self, since: float) -> float:
        """Seconds until it did."""
        until(lambda: self.says() == ["sleep", "cancel"])
        return time.monotonic() - since

    def connections(self) -> set[str]:
        return {each["id"] for each in self.world.json("connections")["connections"]}


@contextmanager
def server(witness: Path) -> Iterator[dict[str, str]]:
    """One over HTTP, as a process; its URLs."""
    command = [sys.executable, "-m", "tasak.testing.http_server"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "EXEC": str(witness)}) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
        process.terminate()


WAYS = ["stdio-handshake", "stdio-stateless", "http-handshake", "http-stateless", "sse", "mcp-remote", "curated"]


@pytest.fixture(params=WAYS)
def place(world: World, request: pytest.FixtureRequest) -> Iterator[Place]:
    transport, _, era = request.param.partition("-")
    fast = {**FAST_APP, "env": {"EXEC": str(world.witness)}}
    with server(world.witness) as urls:
        apps: dict[str, dict[str, Any]] = {
            "stdio": {"there": {**fast, "protocol": era}},
            "http": {"there": {"url": urls["url"], "protocol": era}},
            "sse": {"there": {"transport": "sse", "url": urls["sse_url"]}},
            "mcp": {"there": {"transport": "mcp-remote", "url": urls["url"], "init_timeout": PATIENCE}},
            "curated": {"there": fast, "first": CURATED},
        }
        world.configure(apps[transport])
        yield Place(world, "first" if transport == "curated" else "there")
        world("daemon", "stop")


@pytest.mark.parametrize("number", SIGNALS)
def test_a_command_that_is_ended_cancels_its_call_at_the_server_and_the_session_lives(place, number):
    call = place.sleep()
    before = place.connections()

    ended = time.monotonic()
    call.send_signal(number)
    took = place.hears_of_it(ended)
    call.communicate(timeout=PATIENCE)

    assert took < SOON
    assert call.returncode == (130 if number == signal.SIGINT else -number)
    assert before == place.connections()
    assert "hello\n" == place.world("there", "echo", "--text", "hello").stdout
    assert before == place.connections()


def test_a_call_that_takes_too_long_is_cancelled_at_the_server_and_the_session_lives(place):
    call = place.sleep("--timeout", str(TIMEOUT))
    began = time.monotonic()

    took = place.hears_of_it(began)
    _, said = call.communicate(timeout=PATIENCE)

    assert took < TIMEOUT + SOON
    assert 6 == call.returncode
    assert f"within {TIMEOUT:g} s" in said.decode()
    assert "--timeout" in said.decode()
    before = place.connections()
    assert "hello\n" == place.world("there", "echo", "--text", "hello").stdout
    assert before == place.connections()
