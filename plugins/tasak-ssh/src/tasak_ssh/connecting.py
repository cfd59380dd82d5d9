"""From an app's options to an open SSH connection: through the jump hosts that ~/.ssh/config names, if any."""

import asyncio
import contextlib
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import asyncssh
from tasak.plugin import ConnectFailed

from tasak_ssh import known_hosts
from tasak_ssh.client import Client
from tasak_ssh.failures import failure, place
from tasak_ssh.keys import key_ring
from tasak_ssh.options import CONNECT_TIMEOUT, Options

# Seconds of silence after which the peer is asked whether it is there, where ~/.ssh/config has no ServerAliveInterval;
# asked in vain three times, it is gone.
KEEPALIVE_INTERVAL = 15

# Closing a socket waits for nobody.
CLOSE_TIMEOUT = 1.0

HOP = re.compile(r"(?:ssh://)?(?:(?P<user>.+)@)?(?:\[(?P<address>[^\]]+)\]|(?P<name>[^:@]+))(?::(?P<port>\d+))?")

# Whatever ~/.ssh/config says: nobody is there to be asked for a password, nothing of this machine is lent to the other
# one, none of the daemon's own variables goes there, and nothing but known_hosts vouches for a host.
NEVER: dict[str, Any] = {
    "password_auth": False,
    "kbdint_auth": False,
    "agent_forwarding": False,
    "x11_forwarding": False,
    "gss_delegate_creds": False,
    "gss_kex": False,
    "x509_trusted_certs": None,
    "request_pty": False,
    "send_env": None,
}


async def connect(
    options: Options,
    log: logging.Logger,
    closing: AsyncExitStack,
    jump: asyncssh.SSHClientConnection | None = None,
) -> asyncssh.SSHClientConnection:
    """A connection that is logged in, through `jump` or what ~/.ssh/config says; `closing` closes all that was opened.

    Raises:
        ConnectFailed: there is none; it says what to do.
    """
    given = as_asyncssh_has_it(options)
    found = await configuration(given, options)
    for hop in () if jump else hops(found, options):
        jump = await connect(hop, log, closing, jump)
    known = await asyncio.to_thread(known_hosts.read, options, found)
    async with key_ring(options, found) as ring:
        client = Client(known, ring)
        try:
            connection = await asyncssh.connect(
                **given,
                tunnel=jump,
                known_hosts=known,
                client_factory=lambda: client,
                connect_timeout=options.connect_timeout or found.connect_timeout or CONNECT_TIMEOUT,
                keepalive_interval=found.keepalive_interval or KEEPALIVE_INTERVAL,
            )
        except (asyncssh.Error, OSError, ValueError) as problem:
            raise failure(problem, options, found, client) from problem
        closing.push_async_callback(let_go, connection)
    log.info("logged in as %s@%s with %s", found.username, place(found), ", ".join(ring.offered[-1:]) or "no key")
    return connection


def as_asyncssh_has_it(options: Options) -> dict[str, Any]:
    """What is given outright goes before the configuration file; () stands for what is not given."""
    return {
        "host": options.host,
        "port": options.port or (),
        "username": options.user or (),
        "config": options.config or (),
        "client_keys": None,  # our client offers them
        **NEVER,
    }


async def configuration(given: Mapping[str, Any], options: Options) -> asyncssh.SSHClientConnectionOptions:
    """What the configuration file makes of it; read in a thread, since it may run programs (`Match exec`)."""
    try:
        found: asyncssh.SSHClientConnectionOptions = await asyncssh.SSHClientConnectionOptions.construct(**given)
    except (OSError, ValueError) as problem:
        file = options.config or "~/.ssh/config"
        raise ConnectFailed(
            f"{file} cannot be used: {problem}", fix=f"mend {file}, or name another config"
        ) from problem
    return found


def hops(found: asyncssh.SSHClientConnectionOptions, options: Options) -> Iterator[Options]:
    """The jump hosts on the way, nearest first. Each is looked up in ~/.ssh/config, too.

    We open them ourselves: asyncssh would let a configuration file turn off the check of their host keys.
    """
    for text in str(found.tunnel).split(",") if found.tunnel else ():
        hop = HOP.fullmatch(text.strip())
        if hop is None:
            raise ConnectFailed(f"ProxyJump {text} cannot be understood", fix="write it as user@host:port")
        host = hop["address"] or hop["name"]
        # `Host *` with a ProxyJump means everything but the jump host itself.
        if host != options.host:
            port = int(hop["port"]) if hop["port"] else None
            yield replace(options, host=host, port=port, user=hop["user"], identity_files=())


async def let_go(connection: asyncssh.SSHClientConnection) -> None:
    connection.close()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CLOSE_TIMEOUT):
            await connection.wait_closed()
