"""The hooks of signing in, for each transport that takes `auth:`: all of it is the host's to do."""

from collections.abc import Callable, Mapping
from typing import Any

from tasak.plugin import AppConfig, BadConfig, Host, hookimpl


@hookimpl
async def login(app: AppConfig, host: Host, opens_browser: bool) -> None:
    auth = required_auth(app)
    client = await plain_clients(app, host)
    await host.sign_in.login(app.options["url"], auth, client=client, opens_browser=opens_browser)


@hookimpl
def login_status(app: AppConfig, host: Host) -> Mapping[str, Any]:
    if "auth" not in app.options:
        return {"signed_in": False, "problem": "its config has no `auth:`"}
    return host.sign_in.status(app.options["url"], app.options["auth"])


@hookimpl
async def logout(app: AppConfig, host: Host) -> bool:
    auth = required_auth(app)
    return await host.sign_in.logout(app.options["url"], auth)


def required_auth(app: AppConfig) -> Any:
    if "auth" not in app.options:
        raise BadConfig(f"the config of {app.name} has no `auth:`", fix="write `auth: oauth`")
    return app.options["auth"]


async def plain_clients(app: AppConfig, host: Host) -> Callable[[], Any]:
    # Lazy: it needs httpx2.
    web = await host.load("tasak.transports.web")
    return lambda: web.plain_client(app)
