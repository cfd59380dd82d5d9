"""All that TASAK does for a caller, without a protocol around it: the daemon serves it, direct mode calls it."""

import asyncio
import logging
import os
import secrets
import sys
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tasak.core import diagnosis
from tasak.core.app import App
from tasak.core.clock import Clock, since_boot
from tasak.core.config import AppSummary, Config, Loader
from tasak.core.connection import Connection
from tasak.core.connection_manager import ConnectionManager, remember
from tasak.core.content import as_bytes, as_json, as_text
from tasak.core.host import AppHost
from tasak.core.tool_service import Answer, ToolCall, ToolList, ToolService
from tasak.errors import TOOL_ERROR_EXIT, ServerError, TasakError, UnknownConnection, Usage
from tasak.inert import inert, inert_json
from tasak.paths import StateDir, home
from tasak.plugin import OnProgress
from tasak.request import Mark, Reply, Request
from tasak.transports.registry import Registry

if TYPE_CHECKING:
    from tasak.core.metrics import End, Metrics, Operation

Result = TypeVar("Result")

# `demo` is an app like any other; a config may define its own.
BUILTINS = {
    "demo": {
        "command": [sys.executable, "-P", "-m", "tasak.demo"],
        "description": "a small server to try TASAK with",
    }
}


class Gateway:
    """The core, put together. Lives as long as its process; made and shut down inside one running loop."""

    def __init__(self, state: StateDir, *, environment: Mapping[str, str], clock: Clock = since_boot) -> None:
        self.instance = secrets.token_hex(8)
        self.registry = Registry()
        self._state = state
        self._loader = Loader(
            state_config=state.config,
            home=home(),
            schema_of=lambda transport: self.registry.transport(transport).schema(),
            builtins=BUILTINS,
            daemon_env=environment,
        )
        self.manager = ConnectionManager(
            self.registry, self._host_of, max_connections=self._loader.max_connections, clock=clock
        )
        self.service = ToolService(
            self.manager, clock=clock, on_retry=lambda app: self.metrics.retries.labels(app).inc()
        )
        self._clock = clock
        self._told: OrderedDict[str, None] = OrderedDict()
        self._notices: OrderedDict[tuple[str, Path | None], Sequence[str]] = OrderedDict()

    @cached_property
    def metrics(self) -> "Metrics":
        # Lazy: nothing is counted before the first call has been made.
        from tasak.core.metrics import Metrics

        return Metrics()

    @property
    def notices(self) -> list[str]:
        """What was wrong with the apps that were called when that was last done, each once."""
        return list(dict.fromkeys(notice for notices in self._notices.values() for notice in notices))

    def config(self, cwd: Path | None, env: Mapping[str, str]) -> Config:
        return self._loader.load(cwd, env)

    def apps(self, cwd: Path | None, env: Mapping[str, str]) -> tuple[list[AppSummary], Sequence[str]]:
        """The configured apps, and what is wrong with the files."""
        config = self.config(cwd, env)
        return config.apps(), config.notices

    def describe_apps(self, cwd: Path | None, env: Mapping[str, str]) -> dict[str, Any]:
        """The same as JSON, with the state of each app's connections: `idle` where there is none."""
        found, notices = self.apps(cwd, env)
        states = {(each.app.name, each.app.file): str(each.state) for each in self.manager}
        failed = {(each.app.name, each.app.file) for each in self.manager.failures}
        return {
            "apps": [
                {
                    "name": app.name,
                    "transport": app.transport,
                    "state": state_of(app, states, failed),
                    "file": str(app.file) if app.file else None,
                    "description": app.description,
                    "error": app.error,
                }
                for app in found
            ],
            "notices": list(notices),
        }

    def count_connections(self) -> None:
        """Bring the gauge of connections up to date."""
        self.metrics.connections.clear()
        for connection in self.manager:
            self.metrics.connections.labels(str(connection.state)).inc()

    async def list_tools(self, request: Request, *, refresh: bool = False) -> ToolList:
        """The tools of the app that `request` names."""
        app = self._app(request)
        listed = await self._measured(app, "list", self.service.list_tools(app, refresh=refresh))
        self.metrics.cached_lists.labels(app.name, "cache" if listed.is_cached else "server").inc()
        return listed

    async def call(self, request: Request, on_progress: OnProgress | None = None) -> Reply:
        """Make the call and put its answer into bytes.

        Raises:
            TasakError: as `ToolService.call` says, and what is wrong with the config.
        """
        app = self._app(request)
        call = ToolCall(
            app=app,
            tool=request.tool,
            arguments=request.arguments,
            argv=request.argv,
            on_progress=on_progress,
        )
        answer = await self._measured(app, "call", self.service.call(call))
        self.metrics.connects.labels(app.name, answer.mark).inc()
        return as_reply(answer, request, (*self._news(app), *state_lost(answer.mark, app)))

    async def ping(self, request: Request, *, deep: bool, start: bool) -> dict[str, Any]:
        """How the app's connections are: what the pool knows, or with `deep` a real round trip over each.

        `start` opens one where there is none. Raises `UnknownApp` and what opening raises.
        """
        app = self._app(request)
        connections = self._connections_of(app)
        if start and not connections:
            async with self.manager.lease(app) as lease:
                connections = [lease.connection]
        if deep:
            reports = await diagnosis.probe(connections, self._clock)
        else:
            reports = [diagnosis.describe(connection, self._clock()) for connection in connections]
        failures = [each for each in self.manager.failures if is_same(each.app, app)]
        return {
            "app": app.name,
            "ok": bool(reports) and all(each.get("ok", each["state"] == "ready") for each in reports),
            "connections": [*reports, *(diagnosis.describe_failure(each, self._clock()) for each in failures)],
        }

    async def connections(self) -> list[dict[str, Any]]:
        """The whole pool, with the processes behind it."""
        return await asyncio.to_thread(diagnosis.of_pool, self.manager, self._clock)

    async def close_connection(self, connection_id: str) -> App:
        """End one connection and wait until its processes are gone.

        Raises:
            UnknownConnection: there is none of that id.
        """
        for connection in self.manager:
            if connection.id == connection_id:
                await self.manager.close(connection)
                return connection.app
        raise UnknownConnection(f"there is no connection {connection_id!r}", fix="`tasak connections` lists them")

    async def restart_connection(self, connection_id: str) -> dict[str, Any]:
        """End one connection, and open it afresh."""
        app = await self.close_connection(connection_id)
        async with self.manager.lease(app) as lease:
            return diagnosis.describe(lease.connection, self._clock())

    async def shut_down(self) -> Sequence[int]:
        """End every session; the process groups that are there afterwards: none, unless the kernel holds one."""
        pids = [each.session.pid for each in self.manager if each.session and each.session.pid]
        await self.manager.shut_down()
        return [pid for pid in pids if is_group_alive(pid)]

    async def _measured(self, app: App, operation: "Operation", work: Awaitable[Result]) -> Result:
        began = self._clock()
        end: End = "unknown"
        try:
            result = await work
            end = "tool_error" if isinstance(result, Answer) and result.is_error else "ok"
        except TasakError as problem:
            end = "refused" if isinstance(problem, Usage) else problem.outcome
            raise
        else:
            return result
        finally:
            self.metrics.requests.labels(app.name, operation, end).inc()
            self.metrics.seconds.labels(app.name, operation).observe(self._clock() - began)

    def _connections_of(self, app: App) -> list[Connection]:
        return [each for each in self.manager if is_same(each.app, app)]

    def _app(self, request: Request) -> App:
        return self._loader.resolve(
            request.app, cwd=request.cwd, env=request.env, session=request.session, timeout=request.timeout
        )

    def _news(self, app: App) -> Sequence[str]:
        """Those of the app's notices that no caller was told yet."""
        if app.notices:
            remember(self._notices, (app.name, app.file), app.notices)
        else:
            self._notices.pop((app.name, app.file), None)
        news = [notice for notice in app.notices if notice not in self._told]
        for notice in news:
            remember(self._told, notice, None)
        return news

    def _host_of(self, app: App, on_tools_changed: Callable[[], None]) -> AppHost:
        return AppHost(
            instance=self.instance,
            app_log=self._state.app_log(app.name) if os.access(self._state.root, os.W_OK) else None,
            init_timeout=app.limits.init_timeout,
            log=logging.getLogger(f"tasak.apps.{app.name}"),
            on_tools_changed=on_tools_changed,
        )


def as_reply(answer: Answer, request: Request, notices: Sequence[str]) -> Reply:
    """The answer as bytes: the same ones on every road."""
    if answer.result is None:
        text = as_json({"help": answer.help}) if request.wants_json else answer.help or ""
        return Reply(body=as_bytes(text), exit_status=0, mark=answer.mark, notices=notices)
    text = printed(answer.result, request)
    status = TOOL_ERROR_EXIT if answer.is_error else 0
    return Reply(body=as_bytes(text), exit_status=status, mark=answer.mark, notices=notices)


def state_of(app: AppSummary, states: Mapping[Any, str], failed: Collection[Any]) -> str:
    """What a list of apps says of one, in a word."""
    if app.error:
        return "broken"
    if app.disabled:
        return "disabled"
    key = (app.name, app.file)
    return states.get(key) or ("backoff" if key in failed else "idle")


def is_same(some: App, other: App) -> bool:
    """Whether the same file defines both: another project's app may have the same name."""
    return (some.name, some.file) == (other.name, other.file)


def is_group_alive(pid: int) -> bool:
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def printed(result: Mapping[str, Any], request: Request) -> str:
    try:
        text = as_json(result) if request.wants_json else as_text(result)
    except ValueError as problem:
        raise ServerError(f"{request.app} {request.tool}: its answer is not JSON: {problem}") from problem
    if not request.is_terminal:
        return text
    return inert_json(text) if request.wants_json else inert(text)


def state_lost(mark: Mark, app: App) -> Sequence[str]:
    if mark != "restarted":
        return ()
    return (f"{app.name}: this is a fresh session; the state of the earlier one is gone",)
