"""Every transport of ours keeps the promises that `tasak.testing` makes of transports."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import ClassVar

import pytest

from tasak.testing import ContractPeer, HttpServer, StdioServer, TransportContract


class TestStdio(TransportContract):
    transport = "stdio"

    @asynccontextmanager
    async def peer(self) -> AsyncIterator[ContractPeer]:
        with StdioServer() as server:
            options = {"command": server.command, "env": server.env}
            yield server.peer(options, unreachable={"command": ["false"]})

    @pytest.mark.slow
    async def test_opening_and_closing_again_and_again_leaves_nothing(self) -> None:
        await super().test_opening_and_closing_again_and_again_leaves_nothing()


@pytest.mark.slow
class TestHttp(TransportContract):
    transport = "http"
    notices_idle_death = False

    @asynccontextmanager
    async def peer(self) -> AsyncIterator[ContractPeer]:
        async with HttpServer() as server:
            yield server.peer({"url": server.url})


@pytest.mark.slow
class TestHttpOfTheFirstEra(TestHttp):
    @asynccontextmanager
    async def peer(self) -> AsyncIterator[ContractPeer]:
        async with HttpServer(eras=["handshake"], form="sse") as server:
            yield server.peer({"url": server.url})


@pytest.mark.slow
class TestSse(TransportContract):
    transport = "sse"

    @asynccontextmanager
    async def peer(self) -> AsyncIterator[ContractPeer]:
        async with HttpServer() as server:
            yield server.peer({"url": server.sse_url})


def curated(tool: str, **properties: str) -> dict[str, object]:
    """A tool that only calls the part's tool of the same name."""
    parameters = {"type": "object", "properties": {name: {"type": kind} for name, kind in properties.items()}}
    arguments = {name: f"${{args.{name}}}" for name in properties}
    return {"parameters": parameters, "steps": [{"app": "part", "tool": tool, "arguments": arguments}]}


no_peer = pytest.mark.skip(reason="a curated app has no peer of its own: the pool opens its parts anew")


@pytest.mark.slow
class TestCurated(TransportContract):
    """Its tools are those of a part."""

    transport = "curated"
    notices_idle_death = False
    lacks: ClassVar = {
        "progress": "it reports its steps, and what a step's server reports as their messages",
        "refuse": "an error of a step's server is a result that says which step failed",
    }
    tools: ClassVar = {
        "echo": curated("echo", text="string"),
        "counter": curated("counter"),
        "sleep": curated("sleep", seconds="number"),
        "progress": curated("progress", steps="integer", seconds="number"),
        "big": curated("big", size="integer"),
        "fail": curated("fail", reason="string"),
        "refuse": curated("refuse", code="integer"),
        "die": curated("die", status="integer"),
    }

    @asynccontextmanager
    async def peer(self) -> AsyncIterator[ContractPeer]:
        with StdioServer() as server:
            part = {"part": {"transport": "stdio", "command": server.command, "env": server.env}}
            yield replace(server.peer({"tools": self.tools}), apps=part)

    @no_peer
    async def test_a_ping_waits_for_the_peer(self) -> None: ...

    @no_peer
    async def test_a_ping_of_a_dead_peer_fails(self) -> None: ...

    @no_peer
    async def test_the_death_of_an_idle_peer_is_noticed(self) -> None: ...

    @no_peer
    async def test_a_call_after_the_peers_death_is_never_executed(self) -> None: ...

    @no_peer
    async def test_not_executed_is_said_only_of_what_was_not(self) -> None: ...

    @no_peer
    async def test_closing_after_the_peers_death_was_noticed_raises_nothing(self) -> None: ...

    @no_peer
    async def test_a_peer_that_is_not_there_is_a_failed_connect_that_leaves_nothing(self) -> None: ...
