"""The daemon's HTTP face: routes, who gets in, and errors as statuses. What is done behind it is the gateway's."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from urllib.parse import parse_qsl

from aiohttp import ClientConnectionResetError, web

from tasak import __version__, bodies
from tasak import openapi as schemas
from tasak.answers import streamed, whole
from tasak.callers import Caller
from tasak.core.settings import CONFIG_VARIABLE
from tasak.errors import (
    BadRequest,
    Draining,
    InternalError,
    MethodNotAllowed,
    NoToken,
    OutcomeUnknown,
    TasakError,
    UnknownApp,
    UnknownRoute,
    VersionSkew,
    with_call_id,
)
from tasak.failure import kind
from tasak.front_door import DOOR, SOCKET, Door, body_of, let_in
from tasak.openapi import Route, document
from tasak.paths import home
from tasak.request import Request
from tasak.service import Service
from tasak.wire import (
    APP_HEADER,
    DRAIN,
    JSON,
    LONGEST_DRAIN,
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


def create_app(service: Service, door: Door = SOCKET) -> web.Application:
    """The application behind one door."""
    app = web.Application(client_max_size=door.max_body, middlewares=[report])
    app[SERVICE] = service
    app[DOOR] = door
    for route in ROUTES:
        app.router.add_route(route.method, route.path, route.handler, expect_handler=go_ahead)
    return app


# ── who gets in, and what they hear when something is wrong ──────────────────────────────────────────────────────


@web.middleware
async def report(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let in who may come in, and tell every failure as the one shape of an error."""
    try:
        let_in(request)
        require_known_query(request)
        with attended(request.protocol):
            return await handler(request)
    except NoToken as problem:
        if (request.method, request.path) == ("GET", "/health"):
            return web.json_response({"status": "ok"})
        return failure(problem)
    except TasakError as problem:
        return failure(problem)
    except web.HTTPMethodNotAllowed as problem:
        allowed = ", ".join(sorted(problem.allowed_methods))
        answer = failure(MethodNotAllowed(f"{request.method} is not for {request.path}", fix=f"use {allowed}"))
        answer.headers["Allow"] = allowed
        return answer
    except web.HTTPNotFound:
        return failure(UnknownRoute(f"there is no route {request.path}", fix="see docs/http-api.md"))
    except ClientConnectionResetError:  # the caller hung up: this answer reaches nobody
        return web.Response()
    except Exception as problem:
        log.exception("%s %s", request.method, request.path)
        return failure(InternalError(f"a bug in tasak: {kind(problem)}", fix="see `tasak daemon logs`"))


def attended(caller: web.RequestHandler | None) -> AbstractContextManager[None]:
    """A connection whose request is being answered is not closed to make room for another."""
    return caller if isinstance(caller, Caller) else nullcontext()


async def go_ahead(request: web.Request) -> web.StreamResponse | None:
    """Answer `Expect: 100-continue`: the body is let come only if the call can run here."""
    try:
        let_in(request)
        require_expectation(request)
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
    app = request.match_info.get("app")
    if app in RESERVED and request.headers.get(APP_HEADER) != "exact":
        raise UnknownApp(f"{app} is a word of ours", fix=f"`tasak -- {app}` means an app of that name")


def require_known_query(request: web.Request) -> None:
    if not request.query_string:
        return
    resource = request.match_info.route.resource
    known = QUERIES.get((request.method, resource.canonical if resource else ""), frozenset(request.query))
    for name in request.query:
        if name not in known or len(request.query.getall(name)) > 1:
            raise BadRequest(f"{name!r} in the query is unknown, or stands there twice", fix=words_of(known))


def words_of(names: Collection[str]) -> str:
    return f"known are: {', '.join(sorted(names))}" if names else "this path has no query"


def require_expectation(request: web.Request) -> None:
    if request.headers.get("Expect", "").lower() != "100-continue":
        raise BadRequest("there is nothing to expect but 100-continue")


def failure(problem: TasakError) -> web.Response:
    headers = {"WWW-Authenticate": "Bearer"} if isinstance(problem, NoToken) else None
    return web.json_response(problem.as_json(), status=problem.http_status, headers=headers)


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
            "notices": service.notices,
            "failing": service.gateway.failing,
            "lost": service.gateway.lost,
            "transports": service.gateway.troubles,
            "tcp": service.tcp,
            "tcp_problem": service.tcp_problem,
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
    asked = bodies.list_request(request.match_info["app"], await body_of(request))
    listed = await service.run(lambda: service.gateway.list_tools(asked, refresh=flag(request, "refresh")))
    return web.json_response(
        {
            "app": asked.app,
            "tools": list(listed.tools),
            "cached": listed.is_cached,
            "age": round(listed.age, 3),
            "ttl": listed.ttl,
            "notices": list(listed.notices),
            "blocked": list(listed.blocked),
        },
        headers={SESSION_HEADER: listed.mark},
    )


async def call_tool(request: web.Request) -> web.StreamResponse:
    require_service(request)
    service = request.app[SERVICE]
    accepted = request.headers.get("Accept", JSON)
    content = await body_of(request)
    asked = bodies.call_request(request.match_info["app"], content, wants_json=not accepted.startswith(PLAIN))
    wants_stream = accepted.startswith(NDJSON)
    try:
        if wants_stream or (asked.is_terminal and not asked.wants_json):
            return await streamed(request, asked, service, always=wants_stream)
        return whole(await service.run(lambda: service.gateway.call(asked)), asked)
    except OutcomeUnknown as problem:
        raise with_call_id(problem, asked.call_id) from problem


async def outcome(request: web.Request) -> web.Response:
    return web.json_response(await request.app[SERVICE].gateway.outcomes.known(request.match_info["call_id"]))


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
    service.gateway.metrics.tasks.set(len(asyncio.all_tasks()))
    service.gateway.count_connections()
    if request.headers.get("Accept", "").startswith(JSON):
        return web.json_response(service.gateway.metrics.as_json())
    return web.Response(body=service.gateway.metrics.as_text(), headers={"Content-Type": PROMETHEUS})


async def shutdown(request: web.Request) -> web.Response:
    service = request.app[SERVICE]
    survivors = await service.drain_and_stop(seconds(request, "drain", DRAIN, LONGEST_DRAIN))
    return web.json_response({"stopped": True, "survivors": survivors})


async def openapi(_: web.Request) -> web.Response:
    return web.json_response(document(ROUTES))


ROUTES = (
    Route(
        method="GET",
        path="/health",
        handler=health,
        summary="Whether the daemon answers, and which one it is",
        answers={JSON: {"anyOf": [schemas.HEALTH, schemas.ALIVE]}},
        needs_token=False,
    ),
    Route(
        method="GET",
        path="/apps",
        handler=apps,
        summary="The configured apps",
        query=schemas.WHERE,
        answers={JSON: schemas.APPS},
    ),
    Route(
        method="GET",
        path="/apps/{app}/ping",
        handler=ping,
        summary="How an app's connections are",
        query={"deep": schemas.FLAG, "start": schemas.FLAG, **schemas.WHERE},
        statuses=(200, 503),
        answers={JSON: schemas.PING},
    ),
    Route(
        method="POST",
        path="/tools/list/{app}",
        handler=list_tools,
        summary="The tools of an app",
        query={"refresh": schemas.FLAG},
        body=schemas.LIST,
        answers={JSON: schemas.TOOLS},
    ),
    Route(
        method="POST",
        path="/tools/call/{app}",
        handler=call_tool,
        summary="Call a tool",
        body=schemas.CALL,
        needs_body=True,
        answers={JSON: schemas.RESULT, PLAIN: schemas.TEXT, NDJSON: schemas.TEXT},
    ),
    Route(
        method="GET",
        path="/outcomes/{call_id}",
        handler=outcome,
        summary="What is known of an earlier call",
        answers={JSON: schemas.OUTCOME},
    ),
    Route(
        method="GET",
        path="/connections",
        handler=connections,
        summary="The pool",
        answers={JSON: schemas.POOL},
    ),
    Route(
        method="DELETE",
        path="/connections/{id}",
        handler=close_connection,
        summary="End a connection",
        answers={JSON: schemas.CLOSED},
    ),
    Route(
        method="POST",
        path="/connections/{id}/restart",
        handler=restart_connection,
        summary="End a connection, and open it afresh",
        answers={JSON: schemas.CONNECTION},
    ),
    Route(
        method="GET",
        path="/metrics",
        handler=metrics,
        summary="What was counted and measured",
        answers={JSON: schemas.METRICS, PLAIN: schemas.TEXT},
    ),
    Route(
        method="POST",
        path="/shutdown",
        handler=shutdown,
        summary="Drain, and end the daemon",
        query={"drain": schemas.DRAIN_FOR},
        answers={JSON: schemas.STOPPED},
    ),
    Route(
        method="GET",
        path="/openapi.json",
        handler=openapi,
        summary="This document",
        answers={JSON: schemas.RESULT},
    ),
)

QUERIES = {(route.method, route.path): frozenset(route.query) for route in ROUTES}


# ── what stands in a query ───────────────────────────────────────────────────────────────────────────────────────


def of_query(request: web.Request, app: str) -> Request:
    # Not `request.query`, which leaves bytes that are not UTF-8 as they are quoted.
    query = dict(parse_qsl(request.rel_url.raw_query_string, keep_blank_values=True, errors="surrogateescape"))
    folder = query.get("cwd")
    env = dict(os.environ)
    if (config := query.get("config")) is not None:
        env[CONFIG_VARIABLE] = bodies.path("config", config)
    return Request(app=app, cwd=home() if folder is None else bodies.folder("cwd", folder), env=env)


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
