"""Which keys log in, and what is said when none does."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import written_key
from hosting import STDIO_SERVER, connected, refusal, text_of
from sshd import Sshd
from tasak.testing import no_leaks

needs_agent = pytest.mark.skipif(shutil.which("ssh-agent") is None, reason="needs OpenSSH's ssh-agent")


def far(sshd: Sshd, **options: Any) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": sshd.port, "user": "me", "command": [*STDIO_SERVER], **options}


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Path]:
    """The socket of an agent that holds nothing."""
    socket = tmp_path / "agent"
    started = subprocess.run(["ssh-agent", "-s", "-a", socket], check=True, capture_output=True, text=True)
    yield socket
    os.kill(int(started.stdout.split("SSH_AGENT_PID=")[1].split(";")[0]), signal.SIGTERM)


def move_to(agent: Path, file: Path) -> None:
    """Into the agent, and away from the disk."""
    subprocess.run(
        ["ssh-add", "-q", file], check=True, capture_output=True, env={**os.environ, "SSH_AUTH_SOCK": str(agent)}
    )
    file.unlink()


@pytest.mark.parametrize("as_option", [str, lambda path: [str(path)]])
async def test_a_key_file_of_its_own(sshd, home, as_option):
    (home / ".ssh" / "id_ed25519").rename(home / "key")

    async with connected(far(sshd, identity_file=as_option(home / "key"))) as session:
        assert "hello" == await text_of(session, "echo", text="hello")


async def test_a_key_file_of_its_own_is_the_only_one_offered(sshd, home):
    written_key(home / "other")

    problem = await refusal(far(sshd, identity_file="~/other"))

    where = f"me@127.0.0.1 port {sshd.port}"
    assert problem.message.startswith(f"{where} accepts none of the keys offered (~/other)")


async def test_a_key_file_that_is_not_there_is_told(sshd):
    problem = await refusal(far(sshd, identity_file="~/missing"))

    assert "the private key ~/missing cannot be read: " in problem.message


async def test_a_key_file_that_is_none_is_told(sshd, home):
    (home / "key").write_text("nonsense")

    problem = await refusal(far(sshd, identity_file="~/key"))

    assert "the private key ~/key cannot be read: Invalid private key" == problem.message


async def test_no_key_at_all_is_told(sshd, home):
    (home / ".ssh" / "id_ed25519").unlink()

    problem = await refusal(far(sshd))

    assert "accepts no login: no key to offer" in problem.message
    assert f"`ssh -p {sshd.port} me@127.0.0.1` has to work without a question" in problem.fix


async def test_a_key_with_a_passphrase_is_told(sshd, home):
    written_key(home / ".ssh" / "id_ed25519", passphrase="secret")

    problem = await refusal(far(sshd))

    assert "without a passphrase there is no use in ~/.ssh/id_ed25519" in problem.message
    assert problem.fix.startswith("`ssh-add ~/.ssh/id_ed25519`, or ")


async def test_a_refused_login_leaves_nothing(sshd, home):
    (home / ".ssh" / "id_ed25519").unlink()
    await refusal(far(sshd))

    async with no_leaks():
        await refusal(far(sshd))


async def test_a_server_that_asks_for_a_password_is_given_none(home, tmp_path):
    server = Sshd(tmp_path)
    async with server.serving():
        (home / ".ssh" / "known_hosts").write_text(server.known_hosts_line)

        assert "accepts no login" in (await refusal(far(server))).message
        assert [] == server.passwords


@needs_agent
@pytest.mark.parametrize("way", ["environment", "option", "config"])
async def test_a_key_in_the_agent(sshd, home, agent, monkeypatch, way):
    move_to(agent, home / ".ssh" / "id_ed25519")
    options = {"agent": str(agent)} if way == "option" else {}
    if way == "environment":
        monkeypatch.setenv("SSH_AUTH_SOCK", str(agent))
    if way == "config":
        (home / ".ssh" / "config").write_text(f"IdentityAgent {agent}\n")

    async with no_leaks(), connected(far(sshd, **options)) as session:
        assert "hello" == await text_of(session, "echo", text="hello")


@needs_agent
async def test_an_agent_that_is_not_wanted_is_not_asked(sshd, home, agent, monkeypatch):
    move_to(agent, home / ".ssh" / "id_ed25519")
    monkeypatch.setenv("SSH_AUTH_SOCK", str(agent))

    assert "no key to offer" in (await refusal(far(sshd, agent=False))).message


@needs_agent
async def test_the_agents_keys_are_named_when_none_is_accepted(sshd, home, agent):
    (home / ".ssh" / "id_ed25519").unlink()
    written_key(home / "other")
    move_to(agent, home / "other")

    problem = await refusal(far(sshd, agent=str(agent)))

    assert "none of the keys offered (other of the agent)" in problem.message


@needs_agent
async def test_a_key_file_of_its_own_may_be_in_the_agent_alone(sshd, home, agent):
    for name in ("one", "two", "three"):
        written_key(home / name)
        move_to(agent, home / name)
    move_to(agent, home / ".ssh" / "id_ed25519")

    async with connected(far(sshd, agent=str(agent), identity_file="~/.ssh/id_ed25519.pub")):
        assert 1 == len(sshd.offered_keys)


@pytest.mark.parametrize("path", ["/nowhere", ""])
async def test_an_agent_that_is_absent_is_no_obstacle(sshd, monkeypatch, path):
    monkeypatch.setenv("SSH_AUTH_SOCK", path)

    async with connected(far(sshd)) as session:
        assert "hello" == await text_of(session, "echo", text="hello")
