"""The `read` side of sessions over HTTP: messages from a peer, in the order in which they came."""

import asyncio

import anyio
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCMessage

from tasak.transports.reading import Messages


class Mailbox(Messages):
    """However many exchanges bring them. What is in it when it is closed is still read."""

    def __init__(self) -> None:
        self._messages: asyncio.Queue[SessionMessage | None] = asyncio.Queue()

    def put(self, message: JSONRPCMessage) -> None:
        self._messages.put_nowait(SessionMessage(message))

    def close(self) -> None:
        self._messages.put_nowait(None)

    async def receive(self) -> SessionMessage | Exception:
        message = await self._messages.get()
        if message is None:
            self.close()  # the end stays the end
            raise anyio.EndOfStream
        return message

    async def aclose(self) -> None:
        self.close()
