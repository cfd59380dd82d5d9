"""The `http` transport: an MCP server at a URL, by streamable HTTP."""

import asyncio
from typing import Any

from tasak.plugin import AppConfig, ConnectFailed, Host, McpSession, SpeaksAnother, hookimpl
from tasak.transports.web_options import WEB_SCHEMA
from tasak.transports.web_sign_in import login, login_status, logout

__all__ = ["close", "connect", "login", "login_status", "logout", "ping", "transport_schema"]

PING_TIMEOUT = 5.0

# A server of 2024 that is asked for its event stream.
PROBE_TIMEOUT = 5.0


@hookimpl
def transport_schema() -> dict[str, Any]:
    return WEB_SCHEMA


@hookimpl
async def connect(app: AppConfig, host: Host) -> McpSession:
    # Lazy, and in a thread: it needs the MCP SDK.
    streamable = await host.load("tasak.transports.streamable")
    peer = await streamable.open_peer(app, host)
    try:
        session: McpSession = await host.mcp_session(peer.read, peer, peer, first="stateless")
    except ConnectFailed:
        if peer.knows_no_post and await offers_events(app, host):
            raise SpeaksAnother("sse") from None
        raise
    return session


async def offers_events(app: AppConfig, host: Host) -> bool:
    """Whether the URL is that of a server of 2024, which begins an event stream there with an `endpoint`."""
    event_stream = await host.load("tasak.transports.event_stream")
    try:
        async with asyncio.timeout(PROBE_TIMEOUT):
            peer = await event_stream.open_peer(app, host)
    except (ConnectFailed, TimeoutError):
        return False
    await peer.aclose()
    return True


@hookimpl
async def ping(session: McpSession) -> None:
    await session.ping(PING_TIMEOUT)


@hookimpl
async def close(session: McpSession) -> None:
    await session.aclose()
