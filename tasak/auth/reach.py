"""Where a sign-in may lead. The server names the addresses, and a server need not be a friend.

Only encrypted connections are made, except on this machine and to what the user has named; and none to an address
inside the user's network that the user has not named: the server might want to see what answers there. A name is looked
up before it is connected to, and what counts is where the connection has led.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Iterable, Mapping
from typing import Any

import httpx2
from mcp.shared.auth import OAuthMetadata

from tasak.errors import SignInNeeded
from tasak.inert import one_line

# Longer than any authorization server needs, and no strain for any browser.
URL_LIMIT = 16 * 1024

LOOPBACK_NAME = "localhost"

# Behind which a network has the Internet of IPv4, and perhaps its own (RFC 6052).
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Reach:
    """What one app's sign-in may connect to."""

    def __init__(self, url: str, issuer: str | None, *, own_port: int | None) -> None:
        self._issuer = issuer
        self._own_port = own_port
        self._named = {httpx2.URL(each) for each in (url, issuer) if each is not None}

    def trust(self, metadata: OAuthMetadata | None) -> None:
        """Take for the user's word what an authorization server that the user has named says of itself."""
        if metadata is None or self._issuer is None or not same_issuer(str(metadata.issuer), self._issuer):
            return
        endpoints = (metadata.authorization_endpoint, metadata.token_endpoint, metadata.registration_endpoint)
        self._named |= {httpx2.URL(str(each)) for each in (*endpoints, metadata.revocation_endpoint) if each}

    async def check(self, url: httpx2.URL) -> None:
        """Hold a URL that a server has named against the rules.

        Raises:
            SignInNeeded: it breaks one.
        """
        refuse(url, self._fault(url))
        if not self._is_named(url):
            self.check_addresses(url, await addresses_of(url.host))

    def check_addresses(self, url: httpx2.URL, addresses: Iterable[Address]) -> None:
        """Hold against the rules where connections to a URL lead. Raises as `check`."""
        refuse(url, self._fault_of_addresses(url, list(addresses)))

    def watch(self, request: httpx2.Request) -> None:
        """Have the request fail, as `check` does, where its connection leads to an address that is not good.

        A name may lead elsewhere by then than when it was checked. Nothing but an empty connection gets there.
        """
        request.extensions = {**request.extensions, "trace": Watch(self, request.url).note}

    def _fault(self, url: httpx2.URL) -> str | None:
        if len(str(url)) > URL_LIMIT:
            return "and the URL is too long"
        if url.scheme != "https" and not (url.scheme == "http" and (is_this_machine(url.host) or self._is_named(url))):
            return "which is not encrypted"
        return None

    def _fault_of_addresses(self, url: httpx2.URL, addresses: list[Address]) -> str | None:
        if self._is_named(url):
            return None
        is_own_port = self._own_port is not None and url.port == self._own_port
        if is_own_port and any(address.is_loopback for address in addresses):
            return "which is this program itself"
        if any(url.host == named.host for named in self._named):
            return None
        if not all(address.is_global for address in addresses):
            return "which is inside your own network"
        return None

    def _is_named(self, url: httpx2.URL) -> bool:
        return any(same_origin(url, named) for named in self._named)


class Watch:
    """Looks where the connection for a URL has led, before a byte is sent over it: a `trace` of httpx2."""

    def __init__(self, reach: Reach, url: httpx2.URL) -> None:
        self._reach = reach
        self._url = url
        self._is_direct = False

    async def note(self, event: str, info: Mapping[str, Any]) -> None:
        if event.endswith("connect_tcp.started"):
            # Else it is a proxy, which looks the name up by itself.
            self._is_direct = info["host"] == self._url.raw_host.decode("ascii")
        elif event.endswith("connect_tcp.complete") and self._is_direct:
            await self._look(info["return_value"])

    async def _look(self, stream: Any) -> None:
        address, *_ = stream.get_extra_info("server_addr")
        try:
            self._reach.check_addresses(self._url, [parsed(address)])
        except SignInNeeded:
            await stream.aclose()
            raise


def refuse(url: httpx2.URL, problem: str | None) -> None:
    """Raises SignInNeeded where there is a problem."""
    if problem is not None:
        raise SignInNeeded(
            f"the server sends the sign-in to {shown(url)}, {problem}",
            fix="if you trust it, name the authorization server in the config: `auth: {type: oauth, issuer: URL}`",
        )


def same_issuer(one: str, other: str) -> bool:
    """Whether they are the same string, but for the slash that ends a URL without a path."""
    return one.rstrip("/") == other.rstrip("/")


def same_origin(one: httpx2.URL, other: httpx2.URL) -> bool:
    """Whether scheme, host and port agree; httpx2 has them in one spelling, without a default port."""
    return (one.scheme, one.host, one.port) == (other.scheme, other.host, other.port)


def shown(url: httpx2.URL) -> str:
    """The URL for an error: without a password, and without the query."""
    return one_line(str(url.copy_with(userinfo=b"", query=None, fragment=None)))


def is_this_machine(host: str) -> bool:
    try:
        return host == LOOPBACK_NAME or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def addresses_of(host: str) -> list[Address]:
    """Where connections to `host` would go, however it is spelt; nothing where only a proxy may know."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return [parsed(address[0]) for *_, address in found]


def parsed(text: object) -> Address:
    """The address; one of IPv4 that is written as one of IPv6, as itself."""
    address = ipaddress.ip_address(str(text))
    if isinstance(address, ipaddress.IPv6Address) and (address.ipv4_mapped or address in NAT64):
        return ipaddress.IPv4Address(address.packed[-4:])
    return address
