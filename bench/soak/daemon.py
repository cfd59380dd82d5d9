"""The daemon's API as a caller uses it, many calls at once, on connections that are kept and on new ones."""

import asyncio
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

from bench.home import Failed
from bench.soak.ledger import End

# No call takes as long, even beside much else; what does has no end.
PATIENCE = 60.0

# As much of an answer as a reader takes in.
QUOTED = 200

JSON = {"Accept": "application/json"}


class Daemon:
    """`async with` opens it for callers, and closes every connection to it."""

    def __init__(self, socket: Path) -> None:
        self._socket = str(socket)

    async def __aenter__(self) -> Self:
        self._kept = self._session(force_close=False)
        self._new = self._session(force_close=True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._kept.close()
        await self._new.close()

    async def call(self, app: str, body: dict[str, Any], *, keeps: bool) -> End:
        """Make a call; on a new connection its body is held back until the daemon wants it, as commands do."""
        session = self._kept if keeps else self._new
        try:
            async with session.post(f"/tools/call/{app}", json=body, expect100=not keeps) as response:
                return end_of(await response.json(), body)
        except TimeoutError:
            return End("no_end", "unknown")
        except (aiohttp.ClientError, ValueError) as problem:
            return End("no_answer", "unknown", repr(problem))

    async def ask(self, method: str, path: str) -> Any:
        """What it answers.

        Raises:
            Failed: that is not 200, or nothing.
        """
        try:
            async with self._new.request(method, path) as response:
                answer, status = await response.json(), response.status
        except (aiohttp.ClientError, TimeoutError, ValueError) as problem:
            raise Failed(f"{method} {path}: no answer: {problem!r}") from problem
        if status != 200:
            raise Failed(f"{method} {path}: {answer}")
        return answer

    async def connections(self) -> list[dict[str, Any]]:
        """Those that are open, and those that are being opened or closed."""
        return [each for each in (await self.ask("GET", "/connections"))["connections"] if "id" in each]

    async def metrics(self) -> dict[str, Any]:
        found: dict[str, Any] = await self.ask("GET", "/metrics")
        return found

    def _session(self, *, force_close: bool) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            "http://tasak",
            connector=aiohttp.UnixConnector(self._socket, force_close=force_close, limit=0),
            timeout=aiohttp.ClientTimeout(total=PATIENCE),
            headers=JSON,
        )


def end_of(answer: Any, body: dict[str, Any]) -> End:
    match answer:
        case {"error": {"code": str(code), "outcome": ("executed" | "not_executed" | "unknown") as outcome, **more}}:
            return End(code, outcome, str(more.get("message", "")))
        case {"isError": True}:
            return End("tool_error", "executed", str(answer["content"]))
        case {"content": [{"text": text}]} if text == body["arguments"]["text"]:
            return End("ok", "executed")
    return End("wrong_answer", "unknown", str(answer)[:QUOTED])


async def hung_up(call: "asyncio.Task[End]", after: float) -> End:
    """The end of a call whose caller leaves after so many seconds, if it has no other before."""
    done, _ = await asyncio.wait([call], timeout=after)
    if done:
        return call.result()
    call.cancel()
    await asyncio.wait([call])
    return End("hung_up", "unknown") if call.cancelled() else call.result()
