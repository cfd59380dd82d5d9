"""The `rest` transport: a REST service with an OpenAPI 3 description; its operations are the app's tools."""

from typing import TYPE_CHECKING, Any

from tasak.plugin import AppConfig, Host, hookimpl

from tasak_rest.options import SCHEMA, Options

if TYPE_CHECKING:
    from tasak_rest.session import RestSession


@hookimpl
def transport_schema() -> dict[str, Any]:
    return SCHEMA


@hookimpl
async def connect(app: AppConfig, host: Host) -> "RestSession":
    # Lazy, and in a thread: FastMCP costs half a second, for which the loop has other callers; `tasak plugins` loads
    # this module, too.
    module = await host.load("tasak_rest.session")
    session: RestSession = await module.open_session(Options.parse(app), host)
    return session


@hookimpl
async def ping(session: "RestSession") -> None:
    await session.ping()


@hookimpl
async def close(session: "RestSession") -> None:
    await session.aclose()
