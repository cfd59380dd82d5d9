"""Whom `http` and `sse` trust, and through whom they go: private authorities, and proxies."""

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trustme

from tasak.errors import ConnectFailed
from tasak.transports.web import shared_tls
from tests.core.pool import close_all, failure_of

SECRET = "s3cret"

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


# Private authorities


@dataclass
class Authority:
    """A private certificate authority, and what it has issued for localhost."""

    ca: trustme.CA
    context: ssl.SSLContext
    file: Path


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    ca = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(context)
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    return Authority(ca, context, tmp_path / "ca.pem")


@pytest.mark.parametrize("ca_file", ["{}", "~/ca.pem"])
@pytest.mark.parametrize(("path", "transport"), [("mcp", "http"), ("sse", "sse")])
async def test_a_private_authority_is_trusted_where_the_config_says_so(
    pool, server, authority, ca_file, path, transport
):
    async with passing_on(server.port, context=authority.context) as port:
        url = f"https://localhost:{port}/{path}"
        app = pool.reach(url, transport=transport, ca_file=ca_file.format(authority.file))

        assert "hello" == await pool.text(app, "echo", text="hello")

        await close_all(pool)


async def test_an_authority_that_the_config_does_not_name_is_not_trusted(pool, server, authority, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    shared_tls.cache_clear()  # as in a daemon that has just been started
    async with passing_on(server.port, context=authority.context) as port:
        problem = await failure_of(pool.call(pool.reach(f"https://localhost:{port}/mcp"), "echo", text="hello"))

    assert ConnectFailed is type(problem)
    place = re.escape(f"far: https://localhost:{port}/mcp cannot be reached")
    assert re.fullmatch(f"{place}: its certificate is not trusted: .*issuer certificate", problem.message)
    assert "write the file of that certificate as `ca_file:`" in str(problem.fix)
    assert [] == server.requests


async def test_what_one_app_trusts_no_other_does(pool, server, authority):
    async with passing_on(server.port, context=authority.context) as port:
        url = f"https://localhost:{port}/mcp"
        trusting = pool.reach(url, ca_file=str(authority.file))
        assert "hi" == await pool.text(trusting, "echo", text="hi")

        problem = await failure_of(pool.call(pool.reach(url), "echo", text="hi"))

    assert isinstance(problem, ConnectFailed)
    assert "its certificate is not trusted" in problem.message


async def test_a_certificate_for_another_host_is_not_trusted(pool, server, authority):
    async with passing_on(server.port, context=authority.context) as port:
        app = pool.reach(f"https://127.0.0.1:{port}/mcp", ca_file=str(authority.file))

        problem = await failure_of(pool.call(app, "echo", text="hello"))

    assert "its certificate is not trusted: " in problem.message
    assert [] == server.requests


async def test_https_where_there_is_none_says_so(pool, server):
    problem = await failure_of(pool.call(pool.reach(f"https://127.0.0.1:{server.port}/mcp"), "echo", text="hello"))

    assert "cannot be reached: no TLS: " in problem.message


# Proxies


@dataclass
class Proxy:
    """An HTTP proxy: passes requests on, and opens tunnels."""

    heads: list[str] = field(default_factory=list)
    refuses: bool = False

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        method, target, rest = head.split(" ", 2)
        if self.refuses:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            writer.close()
        elif method == "CONNECT":
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await passed_on((reader, writer), int(target.rpartition(":")[2]))
        else:
            await self._forward(
                f"{method} {httpx2.URL(target).path} {rest}", httpx2.URL(target).port or 80, reader, writer
            )

    async def _forward(self, head: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # One request a connection: the proxy reads no more than the first head.
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        far_writer.write(head.replace("\r\n", "\r\nConnection: close\r\n", 1).encode())
        try:
            await asyncio.gather(copied(reader, far_writer), copied(far_reader, writer))
        finally:
            far_writer.close()


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_the_proxy_of_the_config_is_gone_through(pool, server, authority, scheme):
    proxy = Proxy()
    async with listening(proxy.accept) as proxy_port, passing_on(server.port, context=authority.context) as tls_port:
        port = {"http": server.port, "https": tls_port}[scheme]
        app = pool.reach(
            f"{scheme}://localhost:{port}/mcp?key={SECRET}",
            proxy=f"http://user:{SECRET}@127.0.0.1:{proxy_port}",
            ca_file=str(authority.file),
            protocol="stateless",
        )

        assert "hello" == await pool.text(app, "echo", text="hello")

        await close_all(pool)
    begins = {"http": f"POST http://localhost:{port}/mcp?key=", "https": f"CONNECT localhost:{port} "}[scheme]
    assert all(head.startswith(begins) and "Proxy-Authorization: Basic " in head for head in proxy.heads)


async def test_a_tunnel_that_is_refused_is_no_request(pool, server):
    proxy = Proxy(refuses=True)
    async with listening(proxy.accept) as port:
        app = pool.reach("https://elsewhere.test/mcp", proxy=f"http://user:{SECRET}@127.0.0.1:{port}")

        problem = await failure_of(pool.call(app, "echo", text="hello"))

    through = f"cannot be reached through the proxy http://127.0.0.1:{port}: 407 Proxy Authentication Required"
    assert f"far: https://elsewhere.test/mcp {through}" == problem.message


async def test_a_proxy_that_is_not_there_is_named(pool, server):
    app = pool.reach(server.url, proxy="http://127.0.0.1:9")

    problem = await failure_of(pool.call(app, "echo", text="hello"))

    assert problem.message.endswith("cannot be reached through the proxy http://127.0.0.1:9: connection refused")


# The roads themselves


@asynccontextmanager
async def passing_on(port: int, *, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A port whose connections are passed on to `port`, as they are inside TLS."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await passed_on((reader, writer), port)

    async with listening(accept, context=context) as place:
        yield place


@asynccontextmanager
async def listening(accept: Any, *, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    tasks: set[asyncio.Task[None]] = set()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.create_task(accept(reader, writer)))

    listener = await asyncio.start_server(begin, "127.0.0.1", 0, ssl=context)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def passed_on(client: Streams, port: int) -> None:
    server = await asyncio.open_connection("127.0.0.1", port)
    try:
        await asyncio.gather(copied(client[0], server[1]), copied(server[0], client[1]))
    finally:
        for _, writer in (client, server):
            writer.close()


async def copied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
    writer.close()
