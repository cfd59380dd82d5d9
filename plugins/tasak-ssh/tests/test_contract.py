"""What TASAK asks of every transport, of this one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from sshd import Sshd
from tasak.testing import ContractPeer, StdioServer, TransportContract

# A port that needs rights to listen at, and that nobody does.
NOBODYS = 1


class TestSsh(TransportContract):
    """The server is killed where the peer has to go."""

    transport = "ssh"

    @pytest.fixture(autouse=True)
    def _user(self, home: Path, key: asyncssh.SSHKey) -> None:
        self.home = home
        self.key = key

    @asynccontextmanager
    async def peer(self) -> AsyncIterator[ContractPeer]:
        async with self.machine() as sshd:
            with StdioServer() as server:
                options = self.options(sshd, server)
                yield server.peer(options, unreachable={**options, "port": NOBODYS})

    @asynccontextmanager
    async def machine(self) -> AsyncIterator[Sshd]:
        async with Sshd(self.home).serving(self.key) as sshd:
            with (self.home / ".ssh" / "known_hosts").open("a") as file:
                file.write(f"{sshd.known_hosts_line}\n")
            yield sshd

    def options(self, sshd: Sshd, server: StdioServer) -> dict[str, Any]:
        return {"host": "127.0.0.1", "port": sshd.port, "command": server.command, "env": dict(server.env)}


class TestSshThatIsCut(TestSsh):
    """The connection is cut there."""

    cycles = 10

    @asynccontextmanager
    async def peer(self) -> AsyncIterator[ContractPeer]:
        async with self.machine() as sshd:

            async def cut() -> None:
                sshd.cut()

            with StdioServer() as server:
                options = self.options(sshd, server)
                yield replace(server.peer(options, unreachable={**options, "port": NOBODYS}), cut=cut)
