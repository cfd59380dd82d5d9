"""What the tests of a contract are made of: what its author says, and a session with a peer to try it on."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, get_args

import pytest

# Here, and not in the first connect, where it would be taken for something that the plugin did.
import tasak.core.mcp_session  # noqa: F401
from tasak.plugin import OnProgress, Session
from tasak.testing.leaks import SETTLING_TIME, no_leaks
from tasak.testing.peer import ContractPeer
from tasak.testing.stage import SessionOwner, Stage

Tool = tuple[str, ...]
"""A tool's name at the peer, and the names of its parameters there."""

Ability = Literal["echo", "counter", "sleep", "progress", "big", "fail", "refuse", "die", "cancel", "unknown_tool"]

LONG = 1000.0

# Opening a peer that takes longer is not done hundreds of times.
SLOW_TO_OPEN = 0.1

# After so many turns of the loop a connect is cancelled, or a peer cut off.
MANY_MOMENTS = (0, 1, 2, 3, 5, 8, 13, 21, 34)
FEW_MOMENTS = (1, 8)

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Opened:
    """A session with a peer of its own."""

    peer: ContractPeer
    stage: Stage
    owner: SessionOwner
    session: Session

    def executed(self, word: str) -> int:
        """How often the peer was made to do this; 0 where it has no witness."""
        return list(self.peer.executed()).count(word) if self.peer.executed else 0


class ContractCase:
    """A test that opens a peer and a session of its own, and leaves nothing behind."""

    transport: ClassVar[Any]
    """The name of an installed transport, or a module with the hooks of one."""

    echo: ClassVar[Tool] = ("echo", "text")
    """Answers with its argument, as text."""
    counter: ClassVar[Tool] = ("counter",)
    """Answers how often it was called in this session, as text."""
    sleep: ClassVar[Tool] = ("sleep", "seconds")
    progress: ClassVar[Tool] = ("progress", "steps", "seconds")
    """Reports each step of so many, so many seconds apart."""
    big: ClassVar[Tool] = ("big", "size")
    """Answers so many characters."""
    fail: ClassVar[Tool] = ("fail", "reason")
    """Answers `isError` with the reason as text."""
    refuse: ClassVar[Tool] = ("refuse", "code")
    """Answers a JSON-RPC error with this code."""
    die: ClassVar[Tool] = ("die", "status")
    """The peer is gone before it answers."""

    lacks: ClassVar[Mapping[Ability, str]] = {}
    """What transport and peer cannot do, and why."""
    notices_idle_death: ClassVar[bool] = True
    """False where a peer that dies while nothing is asked of it is missed only by the next call."""
    cycles: ClassVar[int | None] = None
    """How often a session is opened and closed; where it is not said, by how long that takes."""
    patience: ClassVar[float] = 20.0
    """Seconds: longer than one step takes on a busy machine."""
    notice: ClassVar[float] = 5.0
    """Seconds: what is known at once is known by then."""
    settling: ClassVar[float] = SETTLING_TIME
    """Seconds: what was let go of is gone by then."""

    folder: Path
    """The test's own."""

    pytestmark = pytest.mark.asyncio

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if unknown := set(cls.lacks) - set(get_args(Ability)):
            raise TypeError(f"{cls.__name__}: nobody can lack {', '.join(sorted(unknown))}")

    def peer(self) -> AbstractAsyncContextManager[ContractPeer]:
        """A server for one test, there as long as the context is; the subclass says which."""
        raise NotImplementedError

    @pytest.fixture(autouse=True)
    def _own_folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    # What the tests are made of; subclasses may use it for promises of their own

    def stage(self) -> Stage:
        """The core of the daemon, around this transport."""
        return Stage(self.folder, self.transport, init_timeout=self.patience)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Opened]:
        """A session with a peer of its own. Nothing of the two may be left when both are gone."""
        async with no_leaks(within=self.settling), self.peer() as peer, self.stage() as stage:
            owner = stage.own(stage.app(peer.options, peer.apps))
            try:
                yield Opened(peer, stage, owner, await self.soon(owner.opened()))
            finally:
                await owner.close()

    async def call(
        self,
        session: Session,
        tool: Tool,
        *values: Any,
        within: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> dict[str, Any]:
        """The result of a tool; `values` are its arguments, in the order of its parameters."""
        seconds = self.patience if within is None else within
        params = parameters_of(tool, values)
        return await self.soon(session.request("tools/call", params, timeout=seconds, on_progress=on_progress))

    async def text(self, session: Session, tool: Tool, *values: Any) -> str:
        """The text of the result."""
        return text_of(await self.call(session, tool, *values))

    @asynccontextmanager
    async def under_way(self, it: Opened, tool: Tool, *values: Any) -> "AsyncIterator[asyncio.Future[dict[str, Any]]]":
        """A call that the peer has begun to carry out; cancelled in the end, if it is not over."""
        self.need_witness(it.peer)
        before = it.executed(tool[0])
        call = asyncio.ensure_future(it.session.request("tools/call", parameters_of(tool, values), timeout=LONG))
        try:
            await self.until(lambda: call.done() or it.executed(tool[0]) > before)
            yield call
        finally:
            call.cancel()
            await asyncio.wait([call], timeout=self.patience)

    async def assert_usable(self, session: Session) -> None:
        assert not session.ended.is_set()
        if "echo" not in self.lacks:
            assert await self.text(session, self.echo, "usable") == "usable"

    def needs(self, *abilities: Ability) -> None:
        """Skip the test, with the reason, where one of these is lacking."""
        for ability in abilities:
            if ability in self.lacks:
                pytest.skip(f"no {ability}: {self.lacks[ability]}")

    def need_witness(self, peer: ContractPeer) -> None:
        """Skip the test, with the reason, where the peer has no witness."""
        if peer.executed is None:
            pytest.skip("the peer has no witness")

    async def soon(self, work: Awaitable[Result]) -> Result:
        """What `work` gives, within twice the patience: what has a timeout of its own is given the time to use it."""
        return await asyncio.wait_for(work, 2 * self.patience)

    async def together(self, works: Iterable[Awaitable[Result]]) -> list[Result]:
        """What all of them give, within the same time; the first failure is raised when all are over."""
        ends = await self.soon(asyncio.gather(*works, return_exceptions=True))
        for end in ends:
            if isinstance(end, BaseException):
                raise end
        return [end for end in ends if not isinstance(end, BaseException)]

    async def failure_of(self, work: Awaitable[Any], *, within: float) -> BaseException:
        """What `work` raises, within so many seconds."""
        task = asyncio.ensure_future(work)
        await asyncio.wait([task], timeout=within)
        if not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=within)
            pytest.fail(f"it still waits after {within:g} s")
        assert not task.cancelled(), "it was cancelled, and not by its caller"
        problem = task.exception()
        assert problem is not None, f"it was answered: {task.result()!r}"
        return problem

    async def until(self, is_so: Callable[[], Any]) -> None:
        """Wait until something outside of the loop has happened."""
        async with asyncio.timeout(self.patience):
            while not is_so():  # noqa: ASYNC110 - files and processes set no event
                await asyncio.sleep(0.002)

    async def moments(self) -> tuple[int, ...]:
        """How many turns of the loop to wait before something breaks, for a test that tries several."""
        return FEW_MOMENTS if await self.is_slow_to_open() else MANY_MOMENTS

    async def is_slow_to_open(self) -> bool:
        """Whether opening and closing takes long, when it is not done for the first time."""
        async with self.peer() as peer, self.stage() as stage:
            app = stage.app(peer.options, peer.apps)
            await self.cycle(stage.own(app))
            began = time.monotonic()
            await self.cycle(stage.own(app))
            return time.monotonic() - began > SLOW_TO_OPEN

    async def cycle(self, owner: SessionOwner) -> None:
        """A session from its opening to its closing."""
        try:
            await self.assert_usable(await self.soon(owner.opened()))
        finally:
            await owner.close()


def parameters_of(tool: Tool, values: Sequence[Any]) -> dict[str, Any]:
    """What `tools/call` takes."""
    name, *parameters = tool
    return {"name": name, "arguments": dict(zip(parameters, values, strict=True))}


def text_of(result: Mapping[str, Any]) -> str:
    """The text blocks of a tool's result, joined."""
    return "".join(block["text"] for block in result["content"] if block["type"] == "text")


async def turn(turns: int) -> None:
    """Let the loop go on for so many turns."""
    for _ in range(turns):
        await asyncio.sleep(0)
