"""The host's key is checked before anything else, and nothing turns that off."""

import hmac
from base64 import b64encode
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from hosting import STDIO_SERVER, connected, refusal, text_of
from sshd import Sshd


def far(sshd: Sshd, **options: Any) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": sshd.port, "command": [*STDIO_SERVER], **options}


def another_key(sshd: Sshd) -> str:
    key = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    return f"[127.0.0.1]:{sshd.port} {key}"


def known_hosts(home: Path) -> Path:
    return home / ".ssh" / "known_hosts"


@pytest.mark.parametrize("is_missing", [True, False])
async def test_a_host_that_is_not_known_is_refused(sshd, home, is_missing):
    known_hosts(home).unlink() if is_missing else known_hosts(home).write_text("")

    problem = await refusal(far(sshd))

    fingerprint = sshd.host_key.get_fingerprint()
    assert f"the host key of 127.0.0.1 port {sshd.port} is not known: ssh-ed25519 {fingerprint}" == problem.message
    assert f"`ssh -p {sshd.port} 127.0.0.1` once" in problem.fix
    assert f"`ssh-keyscan -p {sshd.port} 127.0.0.1` prints to ~/.ssh/known_hosts" in problem.fix
    assert [] == sshd.commands


async def test_a_host_whose_key_has_changed_is_refused(sshd, home):
    known_hosts(home).write_text(another_key(sshd))

    problem = await refusal(far(sshd))

    assert f"the host key of 127.0.0.1 port {sshd.port} is not the one in ~/.ssh/known_hosts" in problem.message
    assert sshd.host_key.get_fingerprint() in problem.message
    assert f"`ssh-keygen -R '[127.0.0.1]:{sshd.port}'`" in problem.fix
    assert [] == sshd.commands


async def test_a_host_whose_key_is_of_another_kind_now_is_refused(sshd, home):
    key = asyncssh.generate_private_key("ecdsa-sha2-nistp256").export_public_key().decode()
    known_hosts(home).write_text(f"[127.0.0.1]:{sshd.port} {key}")

    problem = await refusal(far(sshd))

    assert problem.message.startswith(f"no SSH session with 127.0.0.1 port {sshd.port}: ")
    assert (
        f"if its owner says that it has other host keys now: `ssh-keygen -R '[127.0.0.1]:{sshd.port}'`" in problem.fix
    )


async def test_a_key_that_was_revoked_is_refused(sshd, home):
    known_hosts(home).write_text(f"{sshd.known_hosts_line}\n@revoked {sshd.known_hosts_line}\n")

    assert "Host key is revoked" in (await refusal(far(sshd))).message


async def test_known_hosts_may_be_a_file_of_its_own(sshd, home, tmp_path):
    trusted = known_hosts(home).rename(tmp_path / "trusted")

    async with connected(far(sshd, known_hosts=str(trusted))) as session:
        assert "hello" == await text_of(session, "echo", text="hello")


async def test_a_file_of_its_own_is_the_only_one(sshd, tmp_path):
    other = tmp_path / "other"
    other.write_text("")

    problem = await refusal(far(sshd, known_hosts=str(other)))

    assert "is not known" in problem.message
    assert f"`ssh -o UserKnownHostsFile={other} -p {sshd.port} 127.0.0.1` once" in problem.fix


async def test_a_file_of_its_own_has_to_be_there(sshd, tmp_path):
    problem = await refusal(far(sshd, known_hosts=str(tmp_path / "nowhere")))

    assert f"the known host keys in {tmp_path / 'nowhere'} cannot be read" in problem.message


async def test_hashed_names_are_understood(sshd, home):
    name, key = sshd.known_hosts_line.split(" ", 1)
    salt = b"twenty bytes of salt"
    digest = hmac.digest(salt, name.encode(), "sha1")
    known_hosts(home).write_text(f"|1|{b64encode(salt).decode()}|{b64encode(digest).decode()} {key}")

    async with connected(far(sshd)):
        assert 1 == len(sshd.commands)


@pytest.mark.parametrize(
    "line", ["UserKnownHostsFile none", "UserKnownHostsFile /dev/null", "StrictHostKeyChecking no"]
)
async def test_the_ssh_config_cannot_turn_it_off(sshd, home, line):
    known_hosts(home).write_text("")
    (home / ".ssh" / "config").write_text(f"GlobalKnownHostsFile none\n{line}\n")

    assert "is not known" in (await refusal(far(sshd))).message
    assert [] == sshd.commands


async def test_the_ssh_config_says_where_they_are(sshd, home, tmp_path):
    trusted = known_hosts(home).rename(tmp_path / "trusted")
    (home / ".ssh" / "config").write_text(f"UserKnownHostsFile /nowhere {trusted}\n")

    async with connected(far(sshd)):
        assert 1 == len(sshd.commands)


async def test_a_host_signed_by_a_known_authority_is_trusted(home, key, tmp_path):
    authority = asyncssh.generate_private_key("ssh-ed25519")
    server = Sshd(tmp_path)
    certificate = authority.generate_host_certificate(
        server.host_key.convert_to_public(), "far", principals="127.0.0.1"
    )
    server.host_key = (server.host_key, certificate)
    known_hosts(home).write_text(f"@cert-authority * {authority.export_public_key().decode()}")

    async with server.serving(key), connected(far(server)):
        assert 1 == len(server.commands)


async def test_a_line_that_is_no_entry_is_told(sshd, home):
    known_hosts(home).write_text("nonsense")

    assert "the known host keys in ~/.ssh/known_hosts cannot be read" in (await refusal(far(sshd))).message
