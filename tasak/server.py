"""The daemon's HTTP face: routes, who gets in, and errors as statuses. What is done behind it is the gateway's."""

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from aiohttp import web

from tasak import __version__, bodies
from tasak.answers import streamed, whole
from tasak.client.fast import peer_uid
from tasak.core.settings import CONFIG_VARIABLE
from tasak.errors import (
    BadRequest,
    Draining,
    Forbidden,
    InternalError,
    MethodNotAllowed,
    TasakError,
    UnknownApp,
    UnknownRoute,
    VersionSkew,
)
from tasak.request import Request
from tasak.service import Service
from tasak.wire import (
    APP_HEADER,
    DRAIN,
    JSON,
    LONGEST_DRAIN,
    MAX_BODY,
    NDJSON,
    PLAIN,
    PROMETHEUS,
    RESERVED,
    SESSION_HEADER,
    VERSION_HEADER,
    WIRE_VERSION,
)

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

SERVICE: web.AppKey[Service] = web.AppKey("service", Service)


def create_app(service: Service) -> web.Application:
    """The application, for a site of the daemon's or a test's."""
    app = web.Application(client_max_size=MAX_BODY, middlewares=[report])
    app[SERVICE] = service
    add = app.router.add_route
    add("GET", "/health", health)
    add("GET", "/apps", apps)
    add("GET", "/apps/{app}/ping", ping)
    add("POST", "/tools/list/{app}", list_tools)
    add("POST", "/tools/call/{app}", call_tool, expect_handler=go_ahead)
    add("GET", "/connections", connections)
    add("DELETE", "/connections/{id}", close_connection)
    add("POST", "/connections/{id}/restart", restart_connection)
    add("GET", "/metrics", metrics)
    add("POST", "/shutdown", shutdown)
    return app


# ── who gets in, and what they hear when something is wrong ──────────────────────────────────────────────────────


@web.middleware
async def report(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let only the daemon's owner in, and tell every failure as the one shape of an error."""
    try:
        require_owner(request)
        return await handler(request)
    except TasakError as problem:
        return failure(problem)
    except web.HTTPMethodNotAllowed as problem:
        allowed = ", ".join(sorted(problem.allowed_methods))
        answer = failure(MethodNotAllowed(f"{request.method} is not for {request.path}", fix=f"use {allowed}"))
        answer.headers["Allow"] = allowed
        return answer
    except web.HTTPNotFound:
        return failure(UnknownRoute(f"there is no route {request.path}", fix="see docs/http-api.md"))
    except web.HTTPRequestEntityTooLarge:
        return failure(BadRequest(f"the body is larger than {MAX_BODY >> 20} MiB"), status=413)
    except Exception as problem:
        log.exception("%s %s", request.method, request.path)
        return failure(InternalError(f"a bug in tasak: {problem!r}", fix="see `tasak daemon logs`"))


async def go_ahead(request: web.Request) -> web.StreamResponse | None:
    """Answer `Expect: 100-continue`: the body is let come only if the call can run here."""
    try:
        require_owner(request)
        require_service(request)
    except TasakError as problem:
        return failure(problem)
    if request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    return None


def require_service(request: web.Request) -> None:
    if request.app[SERVICE].is_draining:
        raise Draining("the daemon is stopping")
    theirs = request.headers.get(VERSION_HEADER, __version__)
    if theirs != __version__:
        raise VersionSkew(f"the daemon is tasak {__version__}, the caller {theirs}", fix="tasak daemon restart")
    app = request.match_info["app"]
    if app in RESERVED and request.headers.get(APP_HEADER) != "exact":
        raise UnknownApp(f"{app} is a word of ours", fix=f"`tasak -- {app}` means an app of that name")


def require_owner(request: web.Request) -> None:
    """On a Unix socket the kernel says who is there. Root may do as the owner does."""
    connection = request.transport.get_extra_info("socket") if request.transport else None
    if connection is None or connection.family != socket.AF_UNIX:
        return
    if peer_uid(connection) not in (os.geteuid(), 0):
        raise Forbidden("this daemon belongs to another user")


def failure(problem: TasakError, status: int | None = None) -> web.Response:
    return web.json_response(problem.as_json(), status=status or problem.http_status)


# ── the routes ───────────────────────────────────────────────────────────────────────────────────────────────────


async def health(request: web.Request) -> web.Response:
    service = request.app[SERVICE]
    return web.json_response(
        {
            "status": "draining" if service.is_draining else "ok",
            "version": __version__,
            "wire_version": WIRE_VERSION,
            "instance": service.instance,
            "pid": os.getpid(),
            "uptime": round(service.uptime(), 3),
            "draining": service.is_draining,
            "connections": len(list(service.gateway.manager)),
            "notices": service.gateway.notices,
        }
    )


async def apps(request: web.Request) -> web.Response:
    asked = of_query(request, "")
    return web.json_response(request.app[SERVICE].gateway.describe_apps(asked.cwd, asked.env))


async def ping(request: web.Request) -> web.Response:
    service = request.app[SERVICE]
    asked = of_query(request, request.match_info["app"])
    found = await service.run(
        lambda: service.gateway.ping(asked, deep=flag(request, "deep"), start=flag(request, "start"))
    )
    return web.json_response(found, status=200 if found["ok"] else 503)


async def list_tools(request: web.Request) -> web.Response:
    service = request.app[SERVICE]
    require_service(request)
    asked = bodies.list_request(request.match_info["app"], await request.read())
    listed = await service.run(lambda: service.gateway.list_tools(asked, refresh=flag(request, "refresh")))
    return web.json_response(
        {
            "app": asked.app,
            "tools": list(listed.tools),
            "cached": listed.is_cached,
            "age": round(listed.age, 3),
            "ttl": listed.ttl,
        },
        headers={SESSION_HEADER: listed.mark},
    )


async def call_tool(request: web.Request) -> web.StreamResponse:
    require_service(request)
    asked = bodies.call_request(request.match_info["app"], await request.read())
    service = request.app[SERVICE]
    accepted = request.headers.get("Accept", JSON)
    asked = replace(asked, wants_json=not accepted.startswith(PLAIN))
    wants_stream = accepted.startswith(NDJSON)
    if wants_stream or (asked.is_terminal and not asked.wants_json):
        return await streamed(request, asked, service, always=wants_stream)
    return whole(await service.run(lambda: service.gateway.call(asked)), asked)


async def connections(request: web.Request) -> web.Response:
    return web.json_response({"connections": await request.app[SERVICE].gateway.connections()})


async def close_connection(request: web.Request) -> web.Response:
    app = await request.app[SERVICE].gateway.close_connection(request.match_info["id"])
    return web.json_response({"closed": request.match_info["id"], "app": app.name})


async def restart_connection(request: web.Request) -> web.Response:
    service = request.app[SERVICE]
    return web.json_response(await service.run(lambda: service.gateway.restart_connection(request.match_info["id"])))


async def metrics(request: web.Request) -> web.Response:
    service = request.app[SERVICE]
    service.gateway.metrics.uptime.set(service.uptime())
    service.gateway.count_connections()
    if request.headers.get("Accept", "").startswith(JSON):
        return web.json_response(service.gateway.metrics.as_json())
    return web.Response(body=service.gateway.metrics.as_text(), headers={"Content-Type": PROMETHEUS})


async def shutdown(request: web.Request) -> web.Response:
    service = request.app[SERVICE]
    survivors = await service.drain(seconds(request, "drain", DRAIN, LONGEST_DRAIN))
    asyncio.get_running_loop().call_soon(service.stop)
    return web.json_response({"stopped": True, "survivors": survivors})


# ── what stands in a query ───────────────────────────────────────────────────────────────────────────────────────


def of_query(request: web.Request, app: str) -> Request:
    folder = request.query.get("cwd")
    env = dict(os.environ)
    if config := request.query.get("config"):
        env[CONFIG_VARIABLE] = config
    return Request(app=app, cwd=bodies.folder("cwd", folder) if folder else Path.home(), env=env)


def flag(request: web.Request, name: str) -> bool:
    value = request.query.get(name, "false")
    if value not in ("true", "false"):
        raise BadRequest(f"{name} is {value!r}, which is neither true nor false")
    return value == "true"


def seconds(request: web.Request, name: str, default: float, most: float) -> float:
    value = request.query.get(name)
    try:
        found = default if value is None else float(value)
    except ValueError:
        found = -1.0
    if not 0 <= found <= most:
        raise BadRequest(f"{name} is {value!r}, which is no number of seconds up to {most:g}")
    return found
