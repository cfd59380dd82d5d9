"""A home directory of the tests' own, and a machine on loopback that it can log in to."""

from collections.abc import AsyncIterator
from pathlib import Path

import asyncssh
import pytest
from sshd import Sshd


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of whoever runs TASAK: it has an empty .ssh, and no agent."""
    folder = tmp_path / "home"
    (folder / ".ssh").mkdir(parents=True, mode=0o700)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return folder


@pytest.fixture
def key(home: Path) -> asyncssh.SSHKey:
    """The user's own, where ssh looks for it."""
    return written_key(home / ".ssh" / "id_ed25519")


def written_key(path: Path, passphrase: str | None = None) -> asyncssh.SSHKey:
    key = asyncssh.generate_private_key("ssh-ed25519", comment=path.name)
    # Only this format can be encrypted without one more library.
    key.write_private_key(path, "pkcs8-pem" if passphrase else "openssh", passphrase=passphrase)
    key.write_public_key(f"{path}.pub")
    path.chmod(0o600)
    return key


@pytest.fixture
async def sshd(home: Path, key: asyncssh.SSHKey, tmp_path: Path) -> AsyncIterator[Sshd]:
    """A machine that lets the user in, and is known."""
    far = tmp_path / "far"
    far.mkdir()
    async with Sshd(far).serving(key) as server:
        (home / ".ssh" / "known_hosts").write_text(f"{server.known_hosts_line}\n")
        yield server
