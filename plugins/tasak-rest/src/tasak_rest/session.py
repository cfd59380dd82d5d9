"""A session with a REST service: MCP's requests answered by its description, and by requests to it."""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import httpx2
from tasak.plugin import (
    BadArguments,
    BadConfig,
    ConnectFailed,
    Host,
    NotExecuted,
    OnProgress,
    OutcomeUnknown,
    ServerError,
)

from tasak_rest.answers import as_result, failure
from tasak_rest.conversion import Tool, tools_of
from tasak_rest.document import base_url, described
from tasak_rest.options import Options
from tasak_rest.quiet import keep_libraries_quiet
from tasak_rest.service import Service, TooLarge, as_url, place

# What a gateway answers for a service that is not there.
GATEWAY_STATUSES = (502, 503, 504)


class RestSession:
    """One service, and the operations of its description as tools."""

    pid = None
    protocol_version = None

    def __init__(
        self, service: Service, tools: Mapping[str, Tool], server_info: Mapping[str, Any], options: Options
    ) -> None:
        self.ended = asyncio.Event()
        self.server_info: Mapping[str, Any] | None = server_info
        self._service = service
        self._tools = tools
        self._options = options
        self._health = health_url(service.base, options)

    async def request(
        self,
        method: str,
        params: Mapping[str, Any] | None,
        *,
        timeout: float,  # noqa: ASYNC109 - it counts from the write, which no outer scope can know
        on_progress: OnProgress | None = None,
    ) -> dict[str, Any]:
        """As `Session.request` promises; HTTP tells of no progress."""
        if self.ended.is_set():
            raise NotExecuted("the session is closed")
        match method, params or {}:
            case "tools/list", _:
                return {"tools": [tool.listed for tool in self._tools.values()]}
            case "tools/call", {"name": str(name), **others}:
                return await self._call(name, others.get("arguments") or {}, timeout)
            case "ping", _:
                await self.ping()
                return {}
        raise ServerError(f"a REST service has no {method}")

    def last_words(self) -> Sequence[str]:
        return ()

    async def ping(self) -> None:
        """See whether the service answers: `health` with success, or at least anything at its base.

        Raises:
            NotExecuted, OutcomeUnknown: it does not.
        """
        if self._health is None:
            request = self._service.request("HEAD", self._service.base)
        else:
            request = self._service.request("GET", self._health)
        response = (await self._service.send(request, seconds=self._options.timeout)).response
        is_well = response.status_code not in GATEWAY_STATUSES if self._health is None else response.is_success
        if not is_well:
            raise NotExecuted(f"{place(request)} answered {response.status_code} {response.reason_phrase}".strip())

    async def aclose(self) -> None:
        self.ended.set()
        await self._service.aclose()

    async def _call(self, name: str, arguments: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        if name not in self._tools:
            raise ServerError(f"there is no tool {name!r}")
        tool = self._tools[name]
        if problem := tool.misfit(arguments):
            raise BadArguments(problem)
        try:
            request = self._as_request(tool, arguments)
        except (ValueError, TypeError) as reason:
            raise BadArguments(f"{tool.place} cannot be asked so: {reason}") from reason
        try:
            return as_result(await self._service.send(request, seconds=seconds))
        except TooLarge as reason:
            return failure(str(reason))

    def _as_request(self, tool: Tool, arguments: Mapping[str, Any]) -> httpx2.Request:
        built = tool.request(arguments, self._service.base)
        return self._service.request(built.method, built.url, headers=built.headers.raw, content=built.read())


async def open_session(options: Options, host: Host) -> RestSession:
    """Read the description, and see whether the service is there.

    Raises:
        ConnectFailed: one of them is not, or cannot be used.
    """
    keep_libraries_quiet()
    with connecting():
        description = await described(options, seconds=host.init_timeout)
        base = base_url(description, options)
        tools = await asyncio.to_thread(tools_of, description, options, host.log)
        service = await Service.open(base, options, headers=options.headers)
        try:
            session = RestSession(service, tools, description.info, options)
            await session.ping()
        except BaseException:
            await service.aclose()
            raise
    return session


def health_url(base: httpx2.URL, options: Options) -> httpx2.URL | None:
    """
    Raises:
        BadConfig: it is at another host, which the headers are not meant for.
    """
    if options.health is None:
        return None
    url = as_url(options.health, "health", against=base)
    if url.origin != base.origin:
        raise BadConfig(f"health: {url} is not at {base.host}", fix="write a path")
    return url


@contextlib.contextmanager
def connecting() -> Iterator[None]:
    """What goes wrong here was no call, and did not happen to one."""
    try:
        yield
    except ConnectFailed:
        raise
    except (NotExecuted, OutcomeUnknown) as problem:
        raise ConnectFailed(problem.message, fix=problem.fix) from problem
    except TooLarge as problem:
        raise ConnectFailed(str(problem)) from problem
