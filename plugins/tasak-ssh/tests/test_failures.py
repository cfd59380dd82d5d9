"""What keeps a session from being opened, and what its reader is told to do about it."""

import asyncio
import socket
from typing import Any

import asyncssh
import pytest
from hosting import STDIO_SERVER, Refusal, refusal
from sshd import Sshd
from tasak.testing import FaultProxy, Plan, Way, no_leaks

COMMAND = [*STDIO_SERVER]


async def failure(**options: Any) -> Refusal:
    """A refusal that leaves nothing."""
    async with no_leaks():
        return await refusal(**options)


async def test_a_name_that_nobody_knows(home):
    problem = await failure(host="far.invalid", command=COMMAND)

    assert problem.message.startswith("the name far.invalid is not known: ")
    assert "mend `host`, or the HostName that ~/.ssh/config gives for it" == problem.fix


async def test_a_port_where_nobody_listens(home):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]

        problem = await failure(host="127.0.0.1", port=port, command=COMMAND)

    assert problem.message.startswith(f"127.0.0.1 port {port} cannot be reached: ")
    assert f"is its SSH server running? see what `ssh -p {port} 127.0.0.1` says" == problem.fix


@pytest.mark.parametrize("from_config", [True, False])
async def test_a_host_that_does_not_answer(home, from_config):
    if from_config:
        (home / ".ssh" / "config").write_text("ConnectTimeout 1\n")
    options = {} if from_config else {"connect_timeout": 0.2}
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]

        problem = await failure(host="127.0.0.1", port=port, command=COMMAND, **options)

    assert f"127.0.0.1 port {port} did not answer in time" == problem.message
    assert f"see what `ssh -p {port} 127.0.0.1` says, or raise connect_timeout" == problem.fix


async def test_a_server_that_does_not_speak_ssh(home):
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-1.0-antique\r\n")
        await reader.read()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]

        problem = await failure(host="127.0.0.1", port=port, command=COMMAND)

    assert f"no SSH session with 127.0.0.1 port {port}: Unsupported SSH version" == problem.message


@pytest.mark.parametrize("after", [0, 1, 20, 1000, 1500])
async def test_a_connection_that_breaks_off_on_the_way(sshd, home, after):
    async with FaultProxy(("127.0.0.1", sshd.port), [Plan(down=Way(cut_after=after))]) as proxy:
        (home / ".ssh" / "known_hosts").write_text(sshd.known_hosts_line.replace(str(sshd.port), str(proxy.port)))

        problem = await failure(host="127.0.0.1", port=proxy.port, command=COMMAND)

    assert f"no SSH session with 127.0.0.1 port {proxy.port}: Connection lost" == problem.message


async def test_a_server_with_which_there_is_no_common_language(home, key, tmp_path):
    server = Sshd(tmp_path)
    async with server.serving(key, encryption_algs=["aes128-cbc"]):
        (home / ".ssh" / "known_hosts").write_text(server.known_hosts_line)
        (home / ".ssh" / "config").write_text("Ciphers aes256-ctr\n")

        problem = await failure(host="127.0.0.1", port=server.port, command=COMMAND)

    assert problem.message.startswith(f"no SSH session with 127.0.0.1 port {server.port}: ")


async def test_a_server_that_runs_no_commands(sshd):
    sshd.refuses_commands = True

    problem = await failure(host="127.0.0.1", port=sshd.port, command="server --now")

    assert problem.message.startswith("the SSH server of 127.0.0.1 starts no command: ")
    assert f"try it by hand: `ssh -p {sshd.port} 127.0.0.1 'server --now'`" == problem.fix


NOT_FOUND = {
    "a string": {"command": "no-such-server --now"},
    "a list": {"command": ["no-such-server", "--now"]},
    "with variables": {"command": "no-such-server", "env": {"A": "1"}},
    "a list with variables": {"command": ["no-such-server"], "env": {"A": "1"}},
    "not executable": {"command": "/etc/passwd"},
}


@pytest.mark.parametrize("options", NOT_FOUND.values(), ids=NOT_FOUND)
async def test_a_command_that_is_not_there(sshd, options):
    problem = await failure(host="127.0.0.1", port=sshd.port, **options)

    assert problem.message in [f"the command on 127.0.0.1 exited with status {status}" for status in (126, 127)]
    assert f"see `ssh -p {sshd.port} 127.0.0.1 'echo $PATH'`" in problem.fix
    assert "absolute path" in problem.fix
    assert any("no-such-server" in line or "passwd" in line for line in problem.last_words)


async def test_a_directory_that_is_not_there(sshd):
    problem = await failure(host="127.0.0.1", port=sshd.port, user="me", command=["echo", "it's"], directory="gone")

    assert problem.message.startswith("the command on 127.0.0.1 exited with status ")
    assert f"try it by hand: `ssh -p {sshd.port} me@127.0.0.1 " in problem.fix
    assert "gone" in "".join(problem.last_words)


async def test_the_command_to_try_by_hand_is_the_one_that_ran(sshd, home, key):
    """It is typed into a shell as it stands."""
    spoken = asyncssh.generate_private_key("ssh-ed25519")
    spoken.write_private_key(home / "a key")
    sshd.accepted_keys.append(spoken.convert_to_public())
    options = {"identity_file": "~/a key", "config": "/dev/null", "known_hosts": "~/.ssh/known_hosts"}

    problem = await failure(host="127.0.0.1", port=sshd.port, user="me", command="exit 3", **options)

    expected = "ssh -F /dev/null -o 'UserKnownHostsFile=~/.ssh/known_hosts' -i ~/'a key'"
    assert f"try it by hand: `{expected} -p {sshd.port} me@127.0.0.1 'exit 3'`" == problem.fix
