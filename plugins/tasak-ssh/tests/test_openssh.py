"""The same with OpenSSH's own server, where it is installed."""

import asyncio
import getpass
import json
import os
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from conftest import written_key
from hosting import STDIO_SERVER, STUBBORN, connected, refusal, text_of
from tasak.plugin import NotExecuted
from tasak.testing import ContractPeer, StdioServer, TransportContract

# It is found by its absolute path, which it insists on; it is seldom on a user's PATH.
SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/opt/homebrew/sbin:/usr/bin")

CONFIG = """
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
AcceptEnv FROM_CONFIG
"""

START_TIMEOUT = 10.0


@asynccontextmanager
async def openssh(folder: Path, accepted: asyncssh.SSHKey) -> AsyncIterator[int]:
    """The server; its port."""
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    host_key.write_private_key(folder / "host_key")
    (folder / "host_key").chmod(0o600)
    accepted.write_public_key(folder / "authorized_keys")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    (folder / "config").write_text(CONFIG.format(port=port, folder=folder))
    known = f"[127.0.0.1]:{port} {host_key.export_public_key().decode()}"
    (folder / "known_hosts").write_text(known)
    assert SSHD is not None
    server = await asyncio.create_subprocess_exec(
        SSHD, "-D", "-e", "-f", str(folder / "config"), stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    assert server.stderr is not None
    try:
        async with asyncio.timeout(START_TIMEOUT):
            said = await server.stderr.readline()
        if b"listening" not in said:
            pytest.skip(f"sshd does not start here: {said.decode().strip()}")
        yield port
    finally:
        if server.returncode is None:
            server.terminate()
        await server.communicate()


needs_sshd = pytest.mark.skipif(SSHD is None, reason="needs OpenSSH's sshd")


@pytest.fixture
async def login(tmp_path: Path, key: asyncssh.SSHKey) -> AsyncIterator[dict[str, Any]]:
    """The options that lead to the server."""
    async with openssh(tmp_path, key) as port:
        yield login_at(port, tmp_path)


def login_at(port: int, folder: Path) -> dict[str, Any]:
    known_hosts = str(folder / "known_hosts")
    return {"host": "127.0.0.1", "port": port, "user": getpass.getuser(), "known_hosts": known_hosts}


@needs_sshd
@pytest.mark.skipif(os.geteuid() == 0, reason="OpenSSH delivers no signals to what root runs")
async def test_a_stubborn_server_is_killed(login):
    with StdioServer() as server:
        async with connected(login, command=STUBBORN, env=dict(server.env)):
            assert [] != server.processes()

        try:
            assert [] == server.processes()
        finally:
            await server.cut()


@needs_sshd
async def test_a_killed_server_is_told_by_its_signal(login):
    with StdioServer() as server:
        async with connected(login, command=server.command, env=dict(server.env)) as session:
            await server.cut()
            await session.ended.wait()

            with pytest.raises(NotExecuted, match="was killed by SIGKILL"):
                await text_of(session, "echo", text="hello")


@needs_sshd
async def test_a_command_that_is_not_there(login):
    problem = await refusal(login, command=["no-such-server"], env={"A": "1"})

    assert "the command on 127.0.0.1 exited with status 127" == problem.message
    assert "no-such-server" in problem.last_words[0]


@needs_sshd
async def test_variables_of_the_ssh_config_are_sent_too(login, home):
    (home / ".ssh" / "config").write_text("SetEnv FROM_CONFIG=1\n")

    async with connected(login, command=[*STDIO_SERVER], env={"FROM_APP": "zażółć\n'2'"}) as session:
        environment = json.loads(await text_of(session, "environment"))

    assert ("1", "zażółć\n'2'") == (environment["FROM_CONFIG"], environment["FROM_APP"])


@needs_sshd
async def test_a_key_that_is_not_accepted_is_named(login, home):
    written_key(home / "other")

    problem = await refusal(login, command="true", identity_file="~/other")

    assert "accepts none of the keys offered (~/other)" in problem.message


@needs_sshd
async def test_a_result_of_64_mib_arrives(login):
    async with connected(login, command=[*STDIO_SERVER]) as session:
        assert 64 << 20 == len(await text_of(session, "big", size=64 << 20))


@needs_sshd
class TestOpenSsh(TransportContract):
    transport = "ssh"

    @pytest.fixture(autouse=True)
    def _user(self, home: Path, key: asyncssh.SSHKey) -> None:
        self.key = key

    @asynccontextmanager
    async def peer(self) -> AsyncIterator[ContractPeer]:
        folder = self.folder / f"sshd-{len([*self.folder.iterdir()])}"
        folder.mkdir()
        async with openssh(folder, self.key) as port:
            with StdioServer() as server:
                options = {**login_at(port, folder), "command": server.command, "env": dict(server.env)}
                yield server.peer(options, unreachable={**options, "port": 1})
