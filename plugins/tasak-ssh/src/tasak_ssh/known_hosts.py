"""Which host keys are trusted: those of the files that OpenSSH would read, and no others."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import asyncssh
from tasak.plugin import ConnectFailed

from tasak_ssh.options import Options

# As in ssh_config(5).
USER_FILES = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
GLOBAL_FILES = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")

SSH_PORT = 22


def files_of(options: Options, found: asyncssh.SSHClientConnectionOptions) -> Sequence[str]:
    """The files that have a say; asyncssh itself would take `UserKnownHostsFile none` for "trust any host"."""
    if options.known_hosts:
        return [options.known_hosts]
    user = found.config.get("UserKnownHostsFile", USER_FILES)
    everyone = found.config.get("GlobalKnownHostsFile", GLOBAL_FILES)
    return [*cast(Sequence[str], user), *cast(Sequence[str], everyone)]


def read(options: Options, found: asyncssh.SSHClientConnectionOptions) -> asyncssh.SSHKnownHosts:
    """The keys in those files. One that is not there is an empty one, unless the app's own options name it.

    Raises:
        ConnectFailed: one cannot be read.
    """
    known = asyncssh.import_known_hosts("")
    for file in files_of(options, found):
        path = Path(file).expanduser()
        if not options.known_hosts and not path.exists():
            continue
        try:
            known.load(path.read_text())
        except (OSError, ValueError) as problem:
            raise ConnectFailed(
                f"the known host keys in {file} cannot be read: {problem}",
                fix=f"mend {file}, or name another known_hosts",
            ) from problem
    return known


def has_keys_of(known: asyncssh.SSHKnownHosts, host: str, address: str, port: int) -> bool:
    return bool(known.match(host, address, None if port == SSH_PORT else port)[0])
