"""The `read` side of a session: a stream of messages, whoever they come from."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

import anyio

if TYPE_CHECKING:
    # Types alone: who begins a process should not wait for the SDK.
    from mcp.shared.message import SessionMessage

# The largest message we promise to carry is 64 MiB of text, which JSON may escape to twice that.
MAX_LINE = 128 << 20


class Messages:
    """A stream of messages; a subclass knows where they come from."""

    async def receive(self) -> "SessionMessage | Exception":
        """The next one.

        Raises:
            anyio.EndOfStream: there will be no more.
        """
        raise NotImplementedError

    async def aclose(self) -> None:
        """Read no more."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> "SessionMessage | Exception":
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


@runtime_checkable
class Prompt(Protocol):
    """A stream from which an answer may be had as it comes, without waking who reads."""

    def offer_to(self, takes: Callable[[bytes], bool]) -> None:
        """Offer it what comes, a line at a time, before it is kept for who reads."""
