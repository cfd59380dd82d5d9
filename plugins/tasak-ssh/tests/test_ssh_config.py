"""~/.ssh/config means what it means to ssh."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncssh
import pytest
from conftest import written_key
from hosting import STDIO_SERVER, connected, refusal, text_of
from sshd import Sshd
from tasak.testing import no_leaks

COMMAND = [*STDIO_SERVER]

# What `nc` does, where there is one.
RELAY = """
import os, socket, sys, threading

def pump(source, sink):
    while chunk := os.read(source, 65536):
        os.write(sink, chunk)
    os._exit(0)

far = socket.create_connection((sys.argv[1], int(sys.argv[2])))
threading.Thread(target=pump, args=(0, far.fileno())).start()
pump(far.fileno(), 1)
"""


def configure(home: Path, text: str) -> Path:
    file = home / ".ssh" / "config"
    file.write_text(text)
    return file


def users(sshd: Sshd) -> list[str]:
    return [connection.get_extra_info("username") for connection in sshd.connections]


async def test_an_alias_stands_for_host_port_user_and_key(sshd, home):
    (home / ".ssh" / "id_ed25519").rename(home / "key")
    configure(home, f"Host far\n HostName 127.0.0.1\n Port {sshd.port}\n User me\n IdentityFile ~/key\n")

    async with connected(host="far", command=COMMAND) as session:
        assert "hello" == await text_of(session, "echo", text="hello")
        assert ["me"] == users(sshd)


async def test_what_the_app_says_goes_before_it(sshd, home):
    configure(home, "Host 127.0.0.1\n Port 1\n User other\n RemoteCommand false\n RequestTTY force\n")

    async with connected(host="127.0.0.1", port=sshd.port, user="me", command=COMMAND):
        assert ["me"] == users(sshd)


async def test_another_file_may_stand_for_it(sshd, home, tmp_path):
    configure(home, "Host far\n HostName nowhere.invalid\n")
    other = tmp_path / "other"
    other.write_text(f"Host far\n HostName 127.0.0.1\n Port {sshd.port}\n")

    async with connected(host="far", config=str(other), command=COMMAND):
        assert 1 == len(sshd.commands)


async def test_a_file_that_is_not_there_is_told(sshd, home, tmp_path):
    problem = await refusal(host="far", config=str(tmp_path / "nowhere"), command=COMMAND)

    assert f"{tmp_path / 'nowhere'} cannot be used: " in problem.message


async def test_a_file_that_is_wrong_is_told(sshd, home):
    configure(home, "Port many\n")

    problem = await refusal(host="far", command=COMMAND)

    assert problem.message.startswith("~/.ssh/config cannot be used: ")
    assert "line 1: Invalid Port" in problem.message


async def test_an_identity_file_that_is_not_there_is_passed_over(sshd, home):
    configure(home, "IdentityFile ~/.ssh/missing\nIdentityFile ~/.ssh/id_ed25519\n")

    async with connected(host="127.0.0.1", port=sshd.port, command=COMMAND):
        assert 1 == len(sshd.commands)


async def test_nothing_of_this_machine_is_lent_to_the_other(sshd, home, monkeypatch):
    configure(home, "ForwardAgent yes\nForwardX11 yes\nForwardX11Trusted yes\nSendEnv LC_*\nSetEnv FROM_CONFIG=1\n")
    monkeypatch.setenv("LC_OURS", "1")
    monkeypatch.setenv("DISPLAY", ":99")
    sshd.accepted = {"LC_OURS", "FROM_CONFIG"}

    async with connected(host="127.0.0.1", port=sshd.port, command=COMMAND) as session:
        environment = await text_of(session, "environment")

    assert "FROM_CONFIG" in environment
    assert "LC_OURS" not in environment
    assert [] == sshd.requests


@pytest.fixture
async def jump(home: Path, key: asyncssh.SSHKey, sshd: Sshd, tmp_path: Path) -> AsyncIterator[Sshd]:
    """A machine on the way to the other one."""
    folder = tmp_path / "jump"
    folder.mkdir()
    async with Sshd(folder).serving(key) as server:
        configure(
            home,
            f"Host jump\n HostName 127.0.0.1\n Port {server.port}\n User passenger\n"
            f"Host far\n HostName 127.0.0.1\n Port {sshd.port}\n User me\nHost *\n ProxyJump jump\n",
        )
        with (home / ".ssh" / "known_hosts").open("a") as file:
            file.write(f"{server.known_hosts_line}\n")
        yield server


async def test_a_jump_host_is_passed_through(sshd, jump):
    async with connected(host="far", command=COMMAND) as session:
        assert "hello" == await text_of(session, "echo", text="hello")
        assert (["passenger"], ["me"]) == (users(jump), users(sshd))


async def test_the_jump_hosts_key_is_checked_too(sshd, jump, home):
    (home / ".ssh" / "known_hosts").write_text(sshd.known_hosts_line)
    with (home / ".ssh" / "config").open("a") as file:
        file.write(" UserKnownHostsFile none\n GlobalKnownHostsFile none\n")

    problem = await refusal(host="far", command=COMMAND)

    assert f"the host key of 127.0.0.1 port {jump.port} is not known" in problem.message
    assert "`ssh jump` once" in problem.fix


async def test_a_session_through_a_jump_host_leaves_nothing(sshd, jump):
    async def live() -> None:
        async with connected(host="far", command=COMMAND) as session:
            assert "hello" == await text_of(session, "echo", text="hello")

    await live()

    async with no_leaks():
        await live()


async def test_a_connect_that_fails_behind_the_jump_host_leaves_nothing(sshd, jump, home):
    (home / ".ssh" / "known_hosts").write_text(jump.known_hosts_line)

    async with no_leaks():
        problem = await refusal(host="far", command=COMMAND)

    assert f"port {sshd.port} is not known" in problem.message


async def test_a_lost_jump_host_ends_the_session(sshd, jump):
    async with connected(host="far", command=COMMAND) as session:
        jump.cut()

        await session.ended.wait()


async def test_a_jump_that_is_none_is_told(home):
    configure(home, "Host far\n ProxyJump me@:22\n")

    problem = await refusal(host="far", command=COMMAND)

    assert "ProxyJump me@:22 cannot be understood" == problem.message


async def test_a_proxy_command_carries_the_connection(sshd, home):
    relay = home / "relay.py"
    relay.write_text(RELAY)
    command = f"{sys.executable} {relay} %h %p"
    configure(home, f"Host far\n HostName 127.0.0.1\n Port {sshd.port}\n ProxyCommand {command}\n")

    async with no_leaks(), connected(host="far", command=COMMAND) as session:
        assert "hello" == await text_of(session, "echo", text="hello")


async def test_only_the_keys_that_are_named_are_offered(sshd, home):
    written_key(home / ".ssh" / "other")
    configure(home, "IdentitiesOnly yes\nIdentityFile ~/.ssh/other\n")

    problem = await refusal(host="127.0.0.1", port=sshd.port, command=COMMAND)

    assert "none of the keys offered (~/.ssh/other)" in problem.message
