"""The `mcp-remote` transport: a server at a URL by way of mcp-remote, which npx runs, and which keeps the sign-in."""

import asyncio
import ipaddress
import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from tasak.last_words import with_last_words
from tasak.plugin import AppConfig, BadConfig, ConnectFailed, Host, McpSession, SignInNeeded, hookimpl
from tasak.secret import Secret
from tasak.transports.child import environment
from tasak.transports.mark import VARIABLE
from tasak.transports.mcp_remote_proxy import Proxy
from tasak.transports.mcp_remote_store import Store

PACKAGE = "mcp-remote@0.15.1"

PING_TIMEOUT = 5.0

# A user who was just told where to sign in. mcp-remote itself would wait for ever.
SIGN_IN_TIMEOUT = 300.0

# By these a program finds the user's desktop, and on it a browser.
DESKTOP = (
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "XAUTHORITY",
    "DBUS_SESSION_BUS_ADDRESS",
    "XDG_RUNTIME_DIR",
    "XDG_CURRENT_DESKTOP",
    "XDG_DATA_DIRS",
    "DESKTOP_SESSION",
    "GNOME_DESKTOP_SESSION_ID",
    "KDE_FULL_SESSION",
    "KDE_SESSION_VERSION",
)

SCHEMA = {
    "type": "object",
    "properties": {
        "url": {
            "description": "Where the server is: http://… or https://…",
            "type": "string",
            "pattern": r"^https?://\S+$",
        },
        "headers": {
            "description": "HTTP headers for each request",
            "type": "object",
            # mcp-remote passes over a header of any other name.
            "propertyNames": {"pattern": "^[A-Za-z0-9_-]+$"},
            "additionalProperties": {"type": "string"},
        },
        "package": {"description": f"The npm package ({PACKAGE})", "type": "string", "pattern": r"^[^-\s]\S*$"},
        "args": {
            "description": "More arguments for mcp-remote; its --header is `headers` here",
            "type": "array",
            # Everyone on the machine could read such a header; and a silent one would not say where to sign in.
            "items": {"type": ["string", "number"], "not": {"enum": ["--header", "--silent"]}},
        },
        "env": {
            "description": "Environment variables for mcp-remote",
            "type": "object",
            "additionalProperties": {"type": ["string", "number"]},
        },
    },
    "required": ["url"],
    "additionalProperties": False,
}


@hookimpl
def transport_schema() -> dict[str, Any]:
    return SCHEMA


@hookimpl
async def connect(app: AppConfig, host: Host) -> McpSession:
    quiet = without_browser(environment_of(app, host))
    proxy = await Proxy.start(
        command(app, quiet),
        environment=quiet,
        app_log=host.app_log,
        on_prompt=lambda prompt: host.waits_for_sign_in(sign_in_needed(app, f": {prompt}")),
    )
    try:
        # It reads no greeting before. A version that says so in other words is greeted too, with time left to answer.
        await reach(app, proxy, host.init_timeout / 2)
    except BaseException:
        await proxy.aclose()
        raise
    session = await host.mcp_session(proxy.read, proxy.write, proxy)
    proxy.end_when_asked()
    return session


@hookimpl
async def ping(session: McpSession) -> None:
    await session.ping(PING_TIMEOUT)


@hookimpl
async def close(session: McpSession) -> None:
    await session.aclose()


@hookimpl
async def login(app: AppConfig, host: Host, opens_browser: bool) -> None:
    environment = environment_of(app, host)
    environment = with_browser(environment) if opens_browser else without_browser(environment)
    proxy = await Proxy.start(
        command(app, environment),
        environment=environment,
        app_log=host.app_log,
        # In any case: a browser may not be found, and mcp-remote's own words go to the log.
        on_prompt=lambda prompt: host.log.warning("to sign in, %s", prompt),
    )
    try:
        async with asyncio.timeout(SIGN_IN_TIMEOUT):
            await reach(app, proxy)
    except TimeoutError:
        raise sign_in_needed(app, f", and nobody did within {SIGN_IN_TIMEOUT / 60:g} minutes") from None
    finally:
        await proxy.aclose()


@hookimpl
def login_status(app: AppConfig, host: Host) -> Mapping[str, Any]:
    return store_of(app, host).status()


@hookimpl
def logout(app: AppConfig, host: Host) -> bool:
    return store_of(app, host).forget()


def command(app: AppConfig, environment: Mapping[str, str]) -> Sequence[str]:
    """What is run; no header's value is in it, since anyone on the machine can read it.

    Raises:
        BadConfig: the URL has a secret in it.
        ConnectFailed: Node.js is not there.
    """
    require_no_secret(app)
    return [npx(environment["PATH"]), "-y", package(app), *arguments(app)]


def require_no_secret(app: AppConfig) -> None:
    """mcp-remote takes its URL from nowhere but its command line."""
    url = app.options["url"]
    parts = urlsplit(url)
    if "@" in parts.netloc or (parts.query and isinstance(url, Secret)):
        raise BadConfig(
            f"{app.name}: a password or a value from ${{…}} stands in its url, which mcp-remote takes on its command "
            "line, where everyone on this machine can read it",
            fix="write it as one of its `headers:`, or reach the server with `transport: http`",
        )


def package(app: AppConfig) -> str:
    return str(app.options.get("package", PACKAGE))


def arguments(app: AppConfig) -> Sequence[str]:
    """The words after the package's name. A port for the callback has to follow the URL, so the user's come first."""
    url = app.options["url"]
    headers = [word for name, variable, _ in headers_of(app) for word in ("--header", f"{name}:${{{variable}}}")]
    return [url, *map(str, app.options.get("args", [])), *(["--allow-http"] if is_loopback(url) else []), *headers]


def headers_of(app: AppConfig) -> Sequence[tuple[str, str, str]]:
    """Each header's name, the variable through which mcp-remote gets its value, and the value.

    In an order of their own: names and variables are part of what mcp-remote keeps the sign-in under.
    """
    headers = sorted(app.options.get("headers", {}).items())
    return [(name, f"TASAK_HEADER_{number}", value) for number, (name, value) in enumerate(headers)]


def environment_of(app: AppConfig, host: Host) -> dict[str, str]:
    return {**environment(app, host.instance), **{variable: value for _, variable, value in headers_of(app)}}


def without_browser(environment: Mapping[str, str]) -> dict[str, str]:
    """The same for a program that is to open none, which mcp-remote would do by itself.

    The opener that it brings for Linux (xdg-open) uses BROWSER where there is no desktop, and is content with `true`.
    """
    quiet = {name: value for name, value in environment.items() if name not in DESKTOP}
    path = quiet["PATH"]
    return {**quiet, "BROWSER": "true", "PATH": without_opener(path) if sys.platform == "darwin" else path}


def without_opener(path: str) -> str:
    """The PATH less the folders that have macOS's `open`, which does not look at BROWSER.

    That is /usr/bin, and mcp-remote needs nothing from there.
    """
    return os.pathsep.join(each for each in path.split(os.pathsep) if not os.path.exists(os.path.join(each, "open")))


def with_browser(environment: Mapping[str, str]) -> dict[str, str]:
    """The same with the desktop of whoever runs this process.

    And without the mark of what this process has started: the browser stays.
    """
    desktop = {name: os.environ[name] for name in ("BROWSER", *DESKTOP) if name in os.environ}
    unmarked = {name: value for name, value in environment.items() if name != VARIABLE}
    return {**unmarked, **desktop}


def npx(path: str) -> str:
    """The absolute path of npx on `path`; a folder of it that is not absolute does not count.

    Raises:
        ConnectFailed: it is not there, or the `node` that it needs is not.
    """
    folders = os.pathsep.join(folder for folder in path.split(os.pathsep) if os.path.isabs(folder))
    found = {program: shutil.which(program, path=folders) for program in ("npx", "node")}
    if missing := [program for program, where in found.items() if not where]:
        raise ConnectFailed(
            f"mcp-remote needs Node.js, and there is no {' and no '.join(missing)} on PATH",
            fix=f"install Node.js 18 or newer (https://nodejs.org), or put its folder on PATH, which is {path!r}",
        )
    return str(found["npx"])


def is_loopback(url: str) -> bool:
    """Whether this is plain HTTP that does not leave the machine: mcp-remote only takes it with a flag."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        return parts.scheme == "http" and (host == "localhost" or ipaddress.ip_address(host).is_loopback)
    except ValueError:  # a name, or no URL at all
        return False


def sign_in_needed(app: AppConfig, more: str) -> SignInNeeded:
    return SignInNeeded(f"you have to sign in{more}", fix=f"run `tasak auth login {app.name}`")


async def reach(app: AppConfig, proxy: Proxy, patience: float | None = None) -> None:
    """Wait as `Proxy.settled` does.

    Raises:
        SignInNeeded: it has gone, because of the user's part.
        ConnectFailed: it has gone for another reason.
    """
    await proxy.settled(patience)
    if not proxy.is_gone:
        return
    reason = with_last_words(await proxy.why_ended(), proxy.last_words())
    if proxy.signs.prompt and not proxy.is_established:
        raise sign_in_needed(app, f", and that did not come to an end: {reason}")
    by_hand = shlex.join(["npx", "-y", package(app), without_query(app.options["url"])])
    raise ConnectFailed(reason, fix=f"try it by hand: {by_hand}")


def without_query(url: str) -> str:
    """The URL for an error: what stands behind the `?` may be a secret."""
    return urlsplit(url)._replace(query="", fragment="").geturl()


def store_of(app: AppConfig, host: Host) -> Store:
    return Store.of(arguments(app), environment(app, host.instance))
