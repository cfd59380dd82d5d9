"""All that TASAK does for a caller, without a protocol around it: the daemon serves it, direct mode calls it."""

import functools
import logging
import os
import sys
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tasak.core import diagnosis
from tasak.core.app import App, is_same, with_timeout
from tasak.core.clock import Clock, since_boot
from tasak.core.config import AppSummary, Config, require_enabled
from tasak.core.config_loader import Loader
from tasak.core.connection_manager import ConnectionManager, Failure, remember
from tasak.core.host import AppHost
from tasak.core.keyring import Unread
from tasak.core.reply import as_reply, made_inert, state_lost
from tasak.core.settings import daemon_settings
from tasak.core.tool_lock import LockReport, ToolLocks
from tasak.core.tool_service import Answer, ToolCall, ToolList, ToolService
from tasak.errors import BadConfig, TasakError, UnknownApp, Usage
from tasak.paths import StateDir
from tasak.paths import home as home_of_user
from tasak.plugin import OnProgress, SignIn
from tasak.request import Reply, Request
from tasak.threads import aside
from tasak.transports.mark import Instance
from tasak.transports.registry import Registry, Transport
from tasak.transports.tree import survivors

if TYPE_CHECKING:
    from tasak.core.metrics import End, Metrics, Operation
    from tasak.core.outcomes import OutcomeBook

Result = TypeVar("Result")

# What the parts of the app that is being called have to tell its caller.
NEWS_OF_PARTS: ContextVar[list[str]] = ContextVar("NEWS_OF_PARTS")

# Whether the caller may only read: then the parts of the app may only be read, too.
READ_ONLY: ContextVar[bool] = ContextVar("READ_ONLY", default=False)

# `demo` is an app like any other; a config may define its own.
BUILTINS = {
    "demo": {
        "command": [sys.executable, "-P", "-m", "tasak.demo"],
        "description": "a small server to try TASAK with",
        "cwd": "/",
        "tools": {"add": {"read_only": True}, "echo": {"read_only": True}},
    }
}


def silent_sign_in(app: str, folder: Path) -> SignIn:
    """For a process that nobody looks at."""
    # Lazy: few apps need it, and it needs half of the MCP SDK.
    from tasak.auth.sign_in import AppSignIn

    return AppSignIn(app, folder, own_port=daemon_settings(os.environ).port)


def nothing() -> None:
    """What a list of tools that nobody keeps does when it changes."""


class Gateway:
    """The core, put together. Lives as long as its process; made and shut down inside one running loop."""

    def __init__(
        self,
        state: StateDir,
        *,
        environment: Mapping[str, str],
        home: Path | None = None,
        clock: Clock = since_boot,
        open_sign_in: Callable[[str, Path], SignIn] = silent_sign_in,
    ) -> None:
        self.instance = str(Instance.of_this_process())
        self.registry = Registry()
        self._state = state
        self._open_sign_in = open_sign_in
        self._loader = Loader(
            state_config=state.config,
            home=home or home_of_user(),
            schema_of=lambda transport: self.registry.transport(transport).schema(),
            parts_of=lambda transport, options: self.registry.transport(transport).parts(options),
            builtins=BUILTINS,
            daemon_env=environment,
            trusted=state.trusted,
        )
        self.manager = ConnectionManager(
            self.registry, self._host_of, max_connections=self._loader.max_connections, clock=clock
        )
        self.locks = ToolLocks(state)
        self.service = ToolService(
            self.manager, self.locks, clock=clock, on_retry=lambda app: self.metrics.retries.labels(app).inc()
        )
        self._clock = clock
        self._told: OrderedDict[str, None] = OrderedDict()
        self._notices: OrderedDict[tuple[str, Path | None], Sequence[str]] = OrderedDict()

    @cached_property
    def metrics(self) -> "Metrics":
        # Lazy: nothing is counted before the first call has been made.
        from tasak.core.metrics import Metrics

        return Metrics()

    @cached_property
    def outcomes(self) -> "OutcomeBook":
        # Lazy: few calls have an id.
        from tasak.core.call_journal import Journal
        from tasak.core.outcomes import OutcomeBook

        return OutcomeBook(Journal(self._state, self.instance), clock=self._clock)

    @property
    def notices(self) -> list[str]:
        """What was wrong with the apps that were called when that was last done, each once; and changed tools."""
        about_apps = [(key, notice) for key, notices in self._notices.items() for notice in notices]
        told = [*about_apps, *self.locks.notices.items()]
        return list(dict.fromkeys(notice for (app, file), notice in told if self._loader.still_defines(app, file)))

    @property
    def failing(self) -> list[dict[str, Any]]:
        """The apps that fail to connect, and why."""
        return [diagnosis.describe_failure(each, self._clock()) for each in self._failures()]

    @property
    def lost(self) -> list[dict[str, Any]]:
        """The connections of which the last thing heard is that a call got no answer: their servers may hang."""
        now = self._clock()
        return [diagnosis.describe(each, now) for each in self.manager if each.has_lost]

    @property
    def troubles(self) -> Mapping[str, str]:
        """What transports did wrong, by name."""
        return self.registry.troubles()

    def config(self, cwd: Path | None, env: Mapping[str, str]) -> Config:
        return self._loader.load(cwd, env)

    def apps(self, cwd: Path | None, env: Mapping[str, str]) -> tuple[list[AppSummary], Sequence[str]]:
        """The configured apps, and what is wrong with the files."""
        config = self.config(cwd, env)
        return config.apps(), config.notices

    def describe_apps(self, cwd: Path | None, env: Mapping[str, str]) -> dict[str, Any]:
        """The same as JSON, with the state of each app's connections: `idle` where there is none."""
        found, notices = self.apps(cwd, env)
        # Those that calls use come first, and count: an older one may still be ending.
        states = {(each.app.name, each.app.file): str(each.state) for each in reversed(list(self.manager))}
        failed = {(each.app.name, each.app.file) for each in self._failures()}
        return {
            "apps": [diagnosis.describe_app(app, states, failed) for app in found],
            "notices": list(notices),
        }

    def count_connections(self) -> None:
        """Bring the gauge of connections up to date."""
        self.metrics.connections.clear()
        for connection in self.manager:
            self.metrics.connections.labels(str(connection.state)).inc()

    async def list_tools(self, request: Request, *, refresh: bool = False) -> ToolList:
        """The tools of the app that `request` names."""
        app = await self._app(request)
        asking = self.service.list_tools(app, refresh=refresh, read_only=request.read_only)
        listed = await self._measured(app, "list", asking)
        self.metrics.cached_lists.labels(app.name, "cache" if listed.is_cached else "server").inc()
        return listed

    async def call(self, request: Request, on_progress: OnProgress | None = None) -> Reply:
        """Make the call and put its answer into bytes. One that has an id is made once (`OutcomeBook.once`).

        Raises:
            TasakError: as `ToolService.call` says, and what is wrong with the config.
        """
        app = await self._app(request)
        NEWS_OF_PARTS.set([])
        READ_ONLY.set(request.read_only)
        if request.call_id is None:
            return self._reply(await self._answer(app, request, on_progress), app, request)
        return await self._call_once(request.call_id, app, request, on_progress)

    async def ping(self, request: Request, *, deep: bool, start: bool) -> dict[str, Any]:
        """How the app's connections are: what the pool knows, or with `deep` a real round trip over each.

        They may be of callers with other values in their environment: without `start`, nobody's are needed. `start`
        opens one where there is none. Raises `UnknownApp`, `Denied` where it is disabled, and what opening raises.
        """
        app = self.config(request.cwd, request.env).definition(request.app)
        require_enabled(app)
        connections = [each for each in self.manager if is_same(each.app, app)]
        if start and not connections:
            async with self.manager.lease(await self._app(request)) as lease:
                connections = [lease.connection]
        if deep:
            reports = await diagnosis.probe(connections, self._clock)
        else:
            reports = [diagnosis.describe(connection, self._clock()) for connection in connections]
        failures = [each for each in self._failures() if is_same(each.app, app)]
        return {
            "app": app.name,
            "ok": bool(reports) and all(each.get("ok", each["state"] == "ready") for each in reports),
            "connections": [*reports, *(diagnosis.describe_failure(each, self._clock()) for each in failures)],
        }

    async def connections(self) -> list[dict[str, Any]]:
        """The whole pool, with the processes behind it, then the apps that fail to connect."""
        pool = [diagnosis.describe(connection, self._clock()) for connection in self.manager]
        return [*await aside(diagnosis.with_processes, pool), *self.failing]

    async def close_connection(self, connection_id: str) -> App:
        """End one connection and wait until its processes are gone.

        Raises:
            UnknownConnection: there is none of that id.
        """
        connection = self.manager.of_id(connection_id)
        await self.manager.close(connection)
        return connection.app

    async def restart_connection(self, connection_id: str) -> dict[str, Any]:
        """End one connection, and open it afresh.

        Raises:
            UnknownConnection: there is none of that id.
            BadConfig: the config says something else of its app by now; nothing is ended.
            NotExecuted: it is ended, and cannot be opened.
        """
        connection = self.manager.of_id(connection_id)
        # That would end the session of what the config says now.
        if not self._loader.still_says(connection.app):
            raise BadConfig(
                f"{connection.app.name}: the config says something else of it than when {connection_id} was opened",
                fix="end it instead: the next call opens one as the config says",
            )
        await self.manager.close(connection)
        async with self.manager.lease(connection.app) as lease:
            return diagnosis.describe(lease.connection, self._clock())

    async def require_login(self, request: Request) -> None:
        """See that there is a sign-in to be had, before anything is done for it.

        Raises:
            Usage: the app's transport knows none.
        """
        await self._with_login(request)

    async def login(self, request: Request, *, opens_browser: bool) -> None:
        """Sign the user in at the app's server.

        Raises:
            Usage: the app's transport knows no sign-in.
            SignInNeeded: it did not come to an end.
        """
        app, transport = await self._with_login(request)
        await transport.login(app.config, self._host_of(app, nothing), opens_browser=opens_browser)

    async def login_status(self, request: Request) -> Mapping[str, Any]:
        """What is known of the user's sign-in, without any secret."""
        app, transport = await self._with_login(request)
        return {"app": app.name, **await transport.login_status(app.config, self._host_of(app, nothing))}

    async def logout(self, request: Request) -> bool:
        """Forget the user's sign-in; whether there was one."""
        app, transport = await self._with_login(request)
        return await transport.logout(app.config, self._host_of(app, nothing))

    async def lock(self, request: Request, *, only_check: bool) -> LockReport:
        """Accept the app's tools as its server lists them now, or see whether they are what was accepted.

        Raises:
            BadConfig: there is no lock to check, or it cannot be written.
            TasakError: what keeps the server from listing them.
        """
        app = await self._app(request)
        if only_check:
            self.locks.require_lock(app)
        tools = await self.service.read_tools(app)
        return await (self.locks.check if only_check else self.locks.accept)(app, tools)

    async def shut_down(self) -> Sequence[int]:
        """End every session; the processes that are there afterwards: none, unless the kernel holds one."""
        if "outcomes" in vars(self):
            await self.outcomes.close()
        connections = list(self.manager)
        await self.manager.shut_down()
        return await aside(survivors, self.instance) if connections else ()

    async def _answer(self, app: App, request: Request, on_progress: OnProgress | None) -> Answer:
        call = ToolCall(
            app=app,
            tool=request.tool,
            arguments=request.arguments,
            argv=request.argv,
            read_only=request.read_only,
            on_progress=on_progress,
        )
        answer = await self._measured(app, "call", self.service.call(call))
        self.metrics.connects(app.name, answer.mark).inc()
        return answer

    def _reply(self, answer: Answer, app: App, request: Request) -> Reply:
        of_session = state_lost(answer.mark, app)
        return as_reply(answer, request, (*self._news(app), *answer.notices, *of_session, *NEWS_OF_PARTS.get()))

    async def _call_once(self, call_id: str, app: App, request: Request, on_progress: OnProgress | None) -> Reply:
        # Lazy, as above.
        from tasak.core.outcomes import Answered, claim_of

        async def answered(on_progress: OnProgress | None) -> Answered:
            answer = await self._answer(app, request, on_progress)
            # Kept as the server sent it: of those who ask for it some have a terminal, and some have none.
            reply = self._reply(answer, app, replace(request, is_terminal=False))
            return Answered(reply, has_run=answer.result is not None)

        reply = await self.outcomes.once(claim_of(call_id, request, app), answered, on_progress)
        return made_inert(reply, request) if request.is_terminal else reply

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
            self.metrics.requests(app.name, operation, end).inc()
            self.metrics.seconds(app.name, operation).observe(self._clock() - began)

    async def _with_login(self, request: Request) -> tuple[App, Transport]:
        app = await self._app(request)
        transport = self.registry.transport(app.transport)
        if not transport.has_login:
            raise Usage(f"{app.name}: its transport, {app.transport}, has no sign-in of its own")
        return app, transport

    def _failures(self) -> list[Failure]:
        """Those of apps that are still what they were when they failed."""
        is_there = self._loader.still_defines
        failures = self.manager.failures
        return [each for each in failures if is_there(each.app.name, each.app.file, so=each.app.source.raw)]

    async def _app(self, request: Request) -> App:
        while True:
            try:
                return self._loader.resolve(
                    request.app, cwd=request.cwd, env=request.env, session=request.session, timeout=request.timeout
                )
            except Unread as wanted:
                await self._loader.read_keyring(wanted)

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
            protocol=app.protocol,
            open_sign_in=functools.partial(self._open_sign_in, app.name, self._state.auth),
            on_tools_changed=on_tools_changed,
            call_part=functools.partial(self._call_part, app),
        )

    async def _call_part(
        self,
        whole: App,
        name: str,
        tool: str,
        arguments: Mapping[str, Any],
        on_progress: OnProgress | None,
        timeout: float | None,  # noqa: ASYNC109 - as for `Session.request`
    ) -> Mapping[str, Any]:
        """A call that one app makes of another: the same road as any caller's."""
        if name not in whole.parts:
            raise UnknownApp(f"{whole.name} calls {name!r}, which its transport did not name among its parts")
        part = whole.parts[name] if timeout is None else with_timeout(whole.parts[name], timeout)
        call = ToolCall(app=part, tool=tool, arguments=arguments, read_only=READ_ONLY.get(), on_progress=on_progress)
        answer = await self._measured(part, "call", self.service.call(call))
        assert answer.result is not None, "help was not asked for"
        if (news := NEWS_OF_PARTS.get(None)) is not None:
            news += [*answer.notices, *state_lost(answer.mark, part)]
        return answer.result
