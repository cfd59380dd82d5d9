"""Why there is no connection, and what its reader can do about it."""

import shlex
import socket

import asyncssh
from tasak.plugin import ConnectFailed

from tasak_ssh.client import Client
from tasak_ssh.known_hosts import SSH_PORT, files_of, has_keys_of
from tasak_ssh.options import Options

Found = asyncssh.SSHClientConnectionOptions


def by_hand(options: Options, command: str = "") -> str:
    """What a user types to do the same, in backquotes."""
    words = ["ssh"]
    words += ["-F", options.config] if options.config else []
    words += ["-o", f"UserKnownHostsFile={options.known_hosts}"] if options.known_hosts else []
    words += [word for file in options.identity_files for word in ("-i", file)]
    words += ["-p", str(options.port)] if options.port else []
    words.append(f"{options.user}@{options.host}" if options.user else options.host)
    return f"`{' '.join(typed(word) for word in [*words, *([command] if command else [])])}`"


def typed(word: str) -> str:
    """Quoted for a shell, which is left to find the home directory."""
    return f"~/{shlex.quote(word[2:])}" if word.startswith("~/") else shlex.quote(word)


def failure(problem: Exception, options: Options, found: Found, client: Client) -> ConnectFailed:
    """The error that tells of `problem`, which kept `client` from logging in."""
    where = place(found)
    match problem:
        case TimeoutError() if problem.errno is None:
            return ConnectFailed(
                f"{where} did not answer in time", fix=f"see what {by_hand(options)} says, or raise connect_timeout"
            )
        case socket.gaierror():
            return ConnectFailed(
                f"the name {found.host} is not known: {problem.strerror}",
                fix="mend `host`, or the HostName that ~/.ssh/config gives for it",
            )
        case OSError():
            return ConnectFailed(
                f"{where} cannot be reached: {problem}",
                fix=f"is its SSH server running? see what {by_hand(options)} says",
            )
        case asyncssh.HostKeyNotVerifiable():
            return untrusted(problem, options, found, client)
        case asyncssh.DisconnectError() if client.is_identified and not isinstance(problem, asyncssh.ConnectionLost):
            return refused(problem, options, found, client)
    reason = problem.reason if isinstance(problem, asyncssh.Error) else problem
    return ConnectFailed(f"no SSH session with {where}: {reason}", fix=advice(options, found, client))


def untrusted(problem: Exception, options: Options, found: Found, client: Client) -> ConnectFailed:
    where, key = place(found), client.untrusted
    if key is None:
        return ConnectFailed(f"{where}: {problem}", fix=f"see what {by_hand(options)} says")
    shown = f"{key.algorithm} {key.fingerprint}"
    if key.is_changed:
        files = " or ".join(files_of(options, found))
        return ConnectFailed(
            f"the host key of {where} is not the one in {files}, but {shown}: somebody may be in between",
            fix=f"if its owner says that the key has changed: {forgetting(options, found)} once",
        )
    return ConnectFailed(
        f"the host key of {where} is not known: {shown}",
        fix=f"{by_hand(options)} once, and compare what it asks with what the owner says; or add what"
        f" `ssh-keyscan -p {found.port} {found.host}` prints to {next(iter(files_of(options, found)), 'known_hosts')}",
    )


def advice(options: Options, found: Found, client: Client) -> str:
    """For a host that did not come to prove who it is: it may only have host keys of another kind than before."""
    look = f"see what {by_hand(options)} says"
    if not has_keys_of(client.known, found.host_key_alias or found.host, "", found.port):
        return look
    return f"{look}; if its owner says that it has other host keys now: {forgetting(options, found)} once"


def forgetting(options: Options, found: Found) -> str:
    file = f" -f {typed(options.known_hosts)}" if options.known_hosts else ""
    return f"`ssh-keygen -R {shlex.quote(entry(found))}{file}`, then {by_hand(options)}"


def refused(problem: asyncssh.DisconnectError, options: Options, found: Found, client: Client) -> ConnectFailed:
    """It is the right host, and it lets nobody in."""
    ring = client.ring
    offered = f"none of the keys offered ({', '.join(ring.offered)})" if ring.offered else "no login: no key to offer"
    locked = f"; without a passphrase there is no use in {', '.join(ring.locked)}" if ring.locked else ""
    unlock = f"`ssh-add {' '.join(map(typed, ring.locked))}`, or " if ring.locked else ""
    reason = "" if isinstance(problem, asyncssh.PermissionDenied) else f" ({problem.reason})"
    return ConnectFailed(
        f"{found.username}@{place(found)} accepts {offered}{locked}{reason}",
        fix=f"{unlock}name the right user and identity_file; {by_hand(options)} has to work without a question",
    )


def place(found: Found) -> str:
    return found.host if found.port == SSH_PORT else f"{found.host} port {found.port}"


def entry(found: Found) -> str:
    """How known_hosts calls it."""
    name = found.host_key_alias or found.host
    return name if found.port == SSH_PORT else f"[{name}]:{found.port}"
