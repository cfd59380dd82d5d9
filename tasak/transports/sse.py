"""The `sse` transport: an MCP server of 2024 at a URL, by HTTP with server-sent events."""

from typing import Any

from tasak.plugin import AppConfig, Host, McpSession, hookimpl
from tasak.transports.web_options import WEB_SCHEMA
from tasak.transports.web_sign_in import login, login_status, logout

__all__ = ["close", "connect", "login", "login_status", "logout", "ping", "transport_schema"]

PING_TIMEOUT = 5.0


@hookimpl
def transport_schema() -> dict[str, Any]:
    return WEB_SCHEMA


@hookimpl
async def connect(app: AppConfig, host: Host) -> McpSession:
    # Lazy, and in a thread: it needs the MCP SDK.
    event_stream = await host.load("tasak.transports.event_stream")
    peer = await event_stream.open_peer(app, host)
    session: McpSession = await host.mcp_session(peer.read, peer, peer)
    return session


@hookimpl
async def ping(session: McpSession) -> None:
    await session.ping(PING_TIMEOUT)


@hookimpl
async def close(session: McpSession) -> None:
    await session.aclose()
