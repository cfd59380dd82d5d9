"""The API on this machine's TCP, for programs that cannot use the socket: the listener and its token."""

import contextlib
import errno
import logging
import os
import secrets
import socket

from tasak.callers import Entrance
from tasak.core.settings import daemon_settings
from tasak.errors import BadConfig
from tasak.front_door import MAX_TCP_BODY, Door
from tasak.paths import StateDir, write_private
from tasak.server import create_app
from tasak.service import Service
from tasak.wire import BACKLOG

# 256 bits, new with each start.
TOKEN_BYTES = 32

# Of our descriptors, for callers: any user of this machine may come and hold one.
SHARE = 0.1

log = logging.getLogger(__name__)


async def opened(state: StateDir, service: Service) -> list[Entrance]:
    """The entrance, unless the user wants none. Where it cannot be had, the socket will do, and `service` says why."""
    settings = daemon_settings(os.environ)
    # A daemon that was killed left it: programs would show it, and what they ask, to whoever has the port by now.
    with contextlib.suppress(OSError):
        state.token.unlink()
    if settings.port is None:
        return []
    place = f"{settings.host}:{settings.port}"
    try:
        listening = listen(settings.host, settings.port)
    except OSError as problem:
        return without(service, place, os.strerror(problem.errno or errno.EADDRNOTAVAIL))
    token = secrets.token_urlsafe(TOKEN_BYTES)
    try:
        write_private(state.token, f"{token}\n")
    except (OSError, BadConfig) as problem:
        listening.close()
        return without(service, place, str(problem))
    service.tcp = place
    door = Door(max_body=MAX_TCP_BODY, token=token, port=settings.port)
    return [await Entrance.open(create_app(service, door), listening, share=SHARE)]


def listen(host: str, port: int) -> socket.socket:
    address = "127.0.0.1" if host == "localhost" else host
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listening = socket.create_server((address, port), family=family, backlog=BACKLOG)
    listening.setblocking(False)
    return listening


def without(service: Service, place: str, why: str) -> list[Entrance]:
    service.tcp_problem = f"{place}: {why}"
    log.warning("the API is at the socket alone, not on %s", service.tcp_problem)
    return []
