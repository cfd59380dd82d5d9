"""The keys to log in with: those of files, and those of ssh-agent. There is nobody to ask for a passphrase."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import asyncssh
from tasak.plugin import ConnectFailed

from tasak_ssh.options import Options

# As in ssh_config(5), without those that want to be touched: they are the agent's to ask for.
DEFAULT_FILES = ("~/.ssh/id_rsa", "~/.ssh/id_ecdsa", "~/.ssh/id_ed25519")

# An agent that hangs is none.
AGENT_TIMEOUT = 5.0


@dataclass(frozen=True, slots=True)
class Key:
    name: str
    """What its user knows it by."""
    pair: asyncssh.SSHKeyPair


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRing:
    """The keys for one login."""

    keys: Sequence[Key]
    """In the order in which they are offered."""
    locked: Sequence[str]
    """The files that need a passphrase."""
    offered: list[str] = field(default_factory=list)

    def offers(self) -> Iterator[asyncssh.SSHKeyPair]:
        """Each key once; what was offered is remembered by name."""
        seen = set()
        for key in self.keys:
            if key.pair.public_data not in seen:
                seen.add(key.pair.public_data)
                self.offered.append(key.name)
                yield key.pair


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """What is in the identity files."""

    keys: Sequence[Key]
    locked: Sequence[str]
    public_halves: Collection[bytes]


@asynccontextmanager
async def key_ring(options: Options, found: asyncssh.SSHClientConnectionOptions) -> AsyncIterator[KeyRing]:
    """The keys of this login; those of an agent can be used while it is open.

    Raises:
        ConnectFailed: a file that the app's options name is no private key.
    """
    named = options.identity_files or cast(Sequence[str], found.config.get("IdentityFile", ()))
    is_only = options.identity_files or found.config.get("IdentitiesOnly")
    certificates = cast(Sequence[str], found.config.get("CertificateFile", ()))
    files = await asyncio.to_thread(read_files, options, named or DEFAULT_FILES, certificates)
    async with AsyncExitStack() as closing:
        in_agent = await agent_keys(agent_path(options, found), closing)
        if is_only:
            in_agent = [key for key in in_agent if key.pair.key_public_data in files.public_halves]
        # Servers hang up after a few keys: what was named goes before what happens to be there.
        keys = [*files.keys, *in_agent] if named else [*in_agent, *files.keys]
        yield KeyRing(keys=keys, locked=files.locked)


def read_files(options: Options, names: Sequence[str], certificates: Sequence[str]) -> Files:
    """The files may be missing, unless the app's own options name them; of a key in the agent, half is enough."""
    keys: list[Key] = []
    locked: list[str] = []
    public: set[bytes] = set()
    for name in names:
        halves = set(public_halves(name))
        public |= halves
        try:
            pairs = asyncssh.load_keypairs(name, certlist=certificates, ignore_encrypted=True)
        except (OSError, asyncssh.KeyImportError) as problem:
            if name in options.identity_files and not halves:
                raise ConnectFailed(
                    f"the private key {name} cannot be read: {problem}", fix="mend identity_file, or the file"
                ) from problem
            continue
        keys += [Key(name, pair) for pair in pairs]
        locked += [] if pairs else [name]
    return Files(keys=keys, locked=locked, public_halves=public)


def public_halves(file: str) -> Iterator[bytes]:
    """Of the key pair whose private half is in the file, or in the agent alone."""
    for path in (f"{file}.pub", file):
        with contextlib.suppress(OSError, asyncssh.KeyImportError):
            yield asyncssh.read_public_key(path).public_data


def agent_path(options: Options, found: asyncssh.SSHClientConnectionOptions) -> str | None:
    """Where the agent's socket is; None where there is to be none."""
    path: object = options.agent
    if path is True:
        path = found.config.get("IdentityAgent", os.environ.get("SSH_AUTH_SOCK"))
    return str(Path(path).expanduser()) if isinstance(path, str) and path else None


async def agent_keys(path: str | None, closing: AsyncExitStack) -> Sequence[Key]:
    """What the agent at that socket holds; nothing where there is none."""
    if path is None:
        return []
    try:
        async with asyncio.timeout(AGENT_TIMEOUT):
            agent = await closing.enter_async_context(await asyncssh.connect_agent(path))
            pairs = await agent.get_keys()
    except (OSError, ValueError):
        return []
    return [Key(f"{pair.get_comment()} of the agent", pair) for pair in pairs]
