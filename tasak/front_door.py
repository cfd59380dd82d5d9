"""Who gets in, and with what: the checks that a request passes before its route sees it. Each says no by raising.

Two doors lead to the same routes. At the socket the kernel says who is there. Over TCP anybody on this machine can
come, and so can a page in the user's browser: there, a token says who it is, and what a page sends is refused whatever
it says.
"""

import asyncio
import hmac
import os
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import HttpVersion10, HttpVersion11, web

from tasak.client.fast import peer_uid
from tasak.errors import BadRequest, Forbidden, Misdirected, NoToken, TooLarge, TooSlow, UnsupportedMediaType
from tasak.wire import JSON, MAX_BODY

# Enough for arguments; what carries a file's content comes over the socket.
MAX_TCP_BODY = 1 << 20

# A request that is not there by then is not coming: its head, counted from the beginning of the connection or the end
# of the answer before, and its body.
HEAD_TIMEOUT = 10.0
BODY_TIMEOUT = 10.0

SCHEME = "Bearer "


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """One way in. `token` and `port` are TCP's."""

    max_body: int = MAX_BODY
    token: str | None = None
    port: int = 0

    @property
    def hosts(self) -> frozenset[str]:
        """What a request over TCP may call us: a name that points here may be somebody else's (DNS rebinding)."""
        names = ("127.0.0.1", "localhost", "[::1]")
        return frozenset([*names, *(f"{name}:{self.port}" for name in names)])


SOCKET = Door()

DOOR: web.AppKey[Door] = web.AppKey("door", Door)

# In a request: it has passed, which is asked before its body comes, and again when it is there.
IS_IN: web.RequestKey[bool] = web.RequestKey("is_in", bool)


def let_in(request: web.Request) -> None:
    """
    Raises:
        TasakError: the first of the checks that it does not pass.
    """
    if IS_IN in request:
        return
    door = request.app[DOOR]
    for check in CHECKS:
        check(request, door)
    request[IS_IN] = True


def is_owners(request: web.Request, door: Door) -> None:
    """On a Unix socket the kernel says who is there. Root may do as the owner does."""
    connection = request.transport.get_extra_info("socket") if request.transport else None
    if door.token is None and connection is not None and peer_uid(connection) not in (os.geteuid(), 0):
        raise Forbidden("this daemon belongs to another user")


def reads_one_way(request: web.Request, door: Door) -> None:
    """A host in the target would count for more than the Host header (RFC 9112, 3.2.2)."""
    if not request.raw_path.startswith("/") or request.version not in (HttpVersion10, HttpVersion11):
        raise BadRequest("the first line of the request is not a method, a path and HTTP/1.1")


def is_meant_for_us(request: web.Request, door: Door) -> None:
    if door.token is not None and request.headers.getall("Host", []) not in [[host] for host in door.hosts]:
        raise Misdirected("the Host header names another place", fix=f"use http://127.0.0.1:{door.port}")


def comes_from_no_page(request: web.Request, door: Door) -> None:
    """Browsers say where a request comes from; nobody else has a reason to."""
    for header in ("Origin", "Sec-Fetch-Site"):
        if header in request.headers:
            raise Forbidden(f"a request with a header {header} comes from a web page; none may come here")


def stays_http(request: web.Request, door: Door) -> None:
    if "Upgrade" in request.headers:
        raise BadRequest("there is no other protocol here to upgrade to")


def has_token(request: web.Request, door: Door) -> None:
    """Nowhere but in its header: query strings and cookies end up in logs."""
    if door.token is None:
        return
    given = request.headers.getall("Authorization", [])
    if len(given) > 1:
        raise BadRequest("there is more than one Authorization header")
    token = given[0].removeprefix(SCHEME) if given and given[0].startswith(SCHEME) else ""
    if not hmac.compare_digest(token.encode("utf-8", "surrogateescape"), door.token.encode()):
        raise NoToken("no token, or not this daemon's", fix="send `Authorization: Bearer` and what is in daemon.token")


def is_json(request: web.Request, door: Door) -> None:
    """What a form on a page can send is not JSON, whatever it looks like."""
    if not request.can_read_body and "Content-Type" not in request.headers:
        return
    kinds = request.headers.getall("Content-Type", [])
    if len(kinds) != 1 or kinds[0].replace(" ", "").lower() not in (JSON, f"{JSON};charset=utf-8"):
        raise UnsupportedMediaType("a body has to be application/json", fix=f"send Content-Type: {JSON}")
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise UnsupportedMediaType("a body has to come as it is, without Content-Encoding")


def is_small_enough(request: web.Request, door: Door) -> None:
    """As far as it says; one that says nothing is cut off where it becomes too large."""
    if (request.content_length or 0) > door.max_body:
        raise too_large(door)


CHECKS: tuple[Callable[[web.Request, Door], None], ...] = (
    is_owners,
    reads_one_way,
    is_meant_for_us,
    comes_from_no_page,
    stays_http,
    has_token,
    is_json,
    is_small_enough,
)


def too_large(door: Door) -> TooLarge:
    return TooLarge(f"the body is larger than {door.max_body >> 20} MiB")


async def body_of(request: web.Request) -> bytes:
    """
    Raises:
        TooSlow, TooLarge: it does not come, or does not end.
    """
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            return await request.read()
    except TimeoutError:
        raise TooSlow(f"the body did not come within {BODY_TIMEOUT:g} s") from None
    except web.HTTPRequestEntityTooLarge:
        raise too_large(request.app[DOOR]) from None
