"""How a session begins: the greetings of the two eras of MCP, and which of them a server answers."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from mcp_types import DiscoverResult, InitializeResult
from mcp_types.version import (
    HANDSHAKE_PROTOCOL_VERSIONS,
    LATEST_HANDSHAKE_VERSION,
    LATEST_MODERN_VERSION,
    MODERN_PROTOCOL_VERSIONS,
)

from tasak.core.era import OTHER, AnotherEra
from tasak.core.exchange import Exchange
from tasak.core.stamp import CAPABILITIES, CLIENT, HandshakeStamp, StatelessStamp
from tasak.errors import ConnectFailed, NotExecuted, OutcomeUnknown, ServerError
from tasak.plugin import Era

Agreed = InitializeResult | DiscoverResult
Greeting = Callable[[Exchange, float], Awaitable[Agreed]]

# A server that has not answered one greeting by then gets the other one, too; the first may still be answered: a cold
# npx is silent for longer than that.
PROBE_TIMEOUT = 5.0


async def agree(exchange: Exchange, *, first: Era, only: bool, seconds: float) -> Agreed:
    """Greet the peer: in the `first` era, and unless that is the `only` one, in the other where it does not answer.

    Raises:
        AnotherEra: it went away on the first greeting.
        ConnectFailed: it was not reached, refused, or spoke nonsense.
        SignInNeeded: it wants to know first who asks.
    """
    greetings = [GREETINGS[first]] if only else [GREETINGS[first], GREETINGS[OTHER[first]]]
    try:
        return await first_answered(exchange, greetings, seconds)
    except ServerError as problem:
        raise ConnectFailed(f"the handshake was refused: {problem.message}", fix=problem.fix) from problem
    except (OutcomeUnknown, NotExecuted) as problem:
        failed = ConnectFailed(problem.message, fix=problem.fix)
        if exchange.ended.is_set() and not only:
            raise AnotherEra(failed, OTHER[first]) from problem
        raise failed from problem
    except ValueError as problem:
        raise ConnectFailed(f"the handshake failed: {problem}") from problem


async def first_answered(exchange: Exchange, greetings: Sequence[Greeting], seconds: float) -> Agreed:
    """The first good answer. A greeting is sent when those before it were refused, or silent for `PROBE_TIMEOUT`.

    Raises what became of the first greeting where none has a good answer.
    """
    begun: list[asyncio.Task[Agreed]] = []
    try:
        for greet in greetings:
            begun.append(asyncio.ensure_future(greet(exchange, seconds)))
            # Who may still answer the first greeting has all the time that there is.
            is_last = len(begun) == len(greetings) and not begun[0].done()
            if answer := await good_answer(exchange, begun, None if is_last else PROBE_TIMEOUT):
                return answer
        return begun[0].result()
    finally:
        for task in begun:
            task.cancel()
        await asyncio.gather(*begun, return_exceptions=True)


async def good_answer(
    exchange: Exchange, begun: "Sequence[asyncio.Task[Agreed]]", patience: float | None
) -> Agreed | None:
    """What one of the greetings is answered with; None where all are refused, or none is answered in time.

    Raises what says that the peer is not there at all.
    """
    pending = {task for task in begun if not task.done()}
    while pending:
        done, pending = await asyncio.wait(pending, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            return None
        for task in done:
            problem = task.exception()
            if problem is None:
                return task.result()
            if exchange.ended.is_set() or not isinstance(problem, REFUSALS):
                raise problem
    return None


# The peer is there, and only did not like the greeting.
REFUSALS = (ServerError, OutcomeUnknown, ValueError)


async def shake_hands(exchange: Exchange, seconds: float) -> InitializeResult:
    hello = {"protocolVersion": LATEST_HANDSHAKE_VERSION, "capabilities": CAPABILITIES, "clientInfo": CLIENT}
    answer = InitializeResult.model_validate(await exchange.request("initialize", hello, timeout=seconds))
    version = str(answer.protocol_version)
    if version not in HANDSHAKE_PROTOCOL_VERSIONS:
        raise ValueError(f"it speaks MCP {version}, which is none that this version of tasak knows")
    exchange.stamp = HandshakeStamp(version)
    await exchange.notify("notifications/initialized")
    return answer


async def discover(exchange: Exchange, seconds: float) -> DiscoverResult:
    probe = StatelessStamp(LATEST_MODERN_VERSION)
    answer = DiscoverResult.model_validate(
        await exchange.request("server/discover", None, timeout=seconds, stamp=probe)
    )
    shared = [version for version in MODERN_PROTOCOL_VERSIONS if version in answer.supported_versions]
    if not shared:
        raise ValueError(f"it speaks MCP {', '.join(answer.supported_versions)}, and no version without a handshake")
    exchange.stamp = StatelessStamp(shared[-1])
    return answer


GREETINGS: dict[Era, Greeting] = {"handshake": shake_hands, "stateless": discover}
