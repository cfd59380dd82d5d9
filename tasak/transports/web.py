"""The HTTP clients of apps, as their config wants them.

Imports httpx2, which comes with mcp: a thread should pay for it.
"""

import functools
import os
import socket
import ssl

import httpx2

from tasak.errors import BadConfig
from tasak.paths import home
from tasak.plugin import AppConfig, Host
from tasak.transports.site import CONNECT_TIMEOUT, Site, utf8

# Node and uvicorn close an idle connection after 5 s: a call that meets the close has an unknown outcome.
KEPT_IDLE = 4.0

# Half a minute of silence on an idle connection, then three questions: a peer that vanished is noticed.
KEEPALIVE = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))


def open_site(app: AppConfig, host: Host) -> Site:
    """The app's server, for one session. With a `ca_file`, or the first time, some 20 ms of a thread: certificates.

    Raises:
        BadConfig: an option is of no use.
    """
    url, auth, proxy = app.options["url"], app.options.get("auth"), app.options.get("proxy")
    client = plain_client(app)
    client.headers.update(utf8({name: str(value) for name, value in app.options.get("headers", {}).items()}))
    if auth is not None:
        client.auth = host.sign_in.flow(url, auth, client=lambda: plain_client(app))
    return Site(client, url, proxy=proxy)


def plain_client(app: AppConfig) -> httpx2.AsyncClient:
    """A client that reaches what the app's does, and says nothing of its own.

    Raises:
        BadConfig: an option is of no use.
    """
    require_place(app, "url")
    proxy = app.options.get("proxy")
    if proxy is not None:
        require_place(app, "proxy")
    transport = httpx2.AsyncHTTPTransport(
        verify=tls(app),
        proxy=proxy,
        trust_env=False,
        socket_options=keepalive(),
        # As many calls as there are: who bounds them is the pool.
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=20, keepalive_expiry=KEPT_IDLE),
    )
    timeout = httpx2.Timeout(None, connect=CONNECT_TIMEOUT)
    return httpx2.AsyncClient(transport=transport, timeout=timeout, trust_env=False, follow_redirects=False)


def require_place(app: AppConfig, option: str) -> None:
    """Hold the option against what can be connected to; it is not shown: there may be a secret in it."""
    try:
        url = httpx2.URL(app.options[option])
        is_place = bool(url.host.encode("idna")) and (url.port is None or 0 < url.port < 1 << 16)
    except (httpx2.InvalidURL, UnicodeError):
        is_place = False
    if not is_place:
        raise BadConfig(f"{app.name}: its {option} is no URL that can be connected to")


def tls(app: AppConfig) -> ssl.SSLContext:
    given = app.options.get("ca_file")
    if given is None:
        return shared_tls()
    path = f"{home()}{given[1:]}" if given.startswith("~/") else given
    if not os.path.isabs(path):
        raise BadConfig(f"{app.name}: ca_file {path} is a relative path", fix="write an absolute one, or one from ~/")
    context = httpx2.create_ssl_context(trust_env=False)
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as problem:
        raise BadConfig(f"{app.name}: there is no certificate in ca_file {path}", fix="it has to be PEM") from problem
    except OSError as problem:
        raise BadConfig(f"{app.name}: ca_file {path} cannot be read: {problem.strerror}") from problem
    return context


@functools.cache
def shared_tls() -> ssl.SSLContext:
    """For all apps that trust what the system does: read once in a process."""
    return httpx2.create_ssl_context(trust_env=False)


def keepalive() -> list[tuple[int, int, int]]:
    known = [(getattr(socket, name), value) for name, value in KEEPALIVE if hasattr(socket, name)]
    return [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), *((socket.IPPROTO_TCP, *each) for each in known)]
