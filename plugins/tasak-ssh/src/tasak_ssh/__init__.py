"""The `ssh` transport: an MCP server on another machine, started there over SSH."""

from typing import Any

from tasak.plugin import AppConfig, Host, McpSession, hookimpl

from tasak_ssh.options import SCHEMA, Options

PING_TIMEOUT = 5.0


@hookimpl
def transport_schema() -> dict[str, Any]:
    return SCHEMA


@hookimpl
async def connect(app: AppConfig, host: Host) -> McpSession:
    # Lazy, and in a thread: asyncssh costs 150 ms and more, for which the loop has other callers; `tasak plugins`
    # loads this module, too.
    await host.load("tasak_ssh.process")
    from tasak_ssh.process import RemoteProcess

    process = await RemoteProcess.start(Options.parse(app.options), host.log)
    read, write = host.lines(process.stdout, process.stdin)
    return await process.explaining(host.mcp_session(read, write, process))


@hookimpl
async def ping(session: McpSession) -> None:
    await session.ping(PING_TIMEOUT)


@hookimpl
async def close(session: McpSession) -> None:
    await session.aclose()
