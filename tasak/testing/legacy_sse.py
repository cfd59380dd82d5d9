"""The two endpoints of HTTP+SSE (MCP 2024-11-05): the stream of a session, and where it is posted to."""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web

from tasak.testing.dialogue import TOOLS_CHANGED, HandshakeDialogue, note
from tasak.testing.faults import ENDS_AFTER
from tasak.testing.streamable import MESSAGE
from tasak.testing.streams import EventStream, event, write
from tasak.testing.tools import Message, Tools


@dataclass(frozen=True, slots=True)
class SseSession:
    dialogue: HandshakeDialogue
    stream: EventStream = field(default_factory=EventStream)


class LegacySse:
    """The endpoints. What may change while they serve is public."""

    def __init__(self, new_tools: Callable[[], Tools]) -> None:
        self.endpoint = "/messages"
        """What the stream's first event tells the client to post to."""
        self._new_tools = new_tools
        self._sessions: dict[str, SseSession] = {}

    async def get(self, request: web.Request) -> web.StreamResponse:
        session = SseSession(HandshakeDialogue(self._new_tools()))
        name = secrets.token_hex(16)
        self._sessions[name] = session
        try:
            first = event(f"{self.endpoint}?session_id={name}", event="endpoint")
            return await write(request, session.stream, first=first)
        finally:
            self._sessions.pop(name, None)
            session.dialogue.stop()

    async def post(self, request: web.Request) -> web.StreamResponse:
        session = self._find(request)
        if session is None:
            return web.Response(status=404, text="there is no such session")
        message = request[MESSAGE]
        if "id" in message and "method" in message:
            self._begin(session, request, message)
        elif message.get("method") == "notifications/cancelled":
            session.dialogue.cancel_request(message["params"]["requestId"])
        return web.Response(status=202, text="Accepted")

    async def execute(self, request: web.Request, message: Message) -> Message:
        """Carry a request out, for a fault that spoils its answer."""
        session = self._find(request) or SseSession(HandshakeDialogue(self._new_tools()))
        return await session.dialogue.response(message)

    def tools_changed(self) -> None:
        """Tell every client."""
        for session in self._sessions.values():
            session.stream.send(note(TOOLS_CHANGED))

    def stop(self) -> "list[asyncio.Task[None]]":
        """Give up on all that is under way; what is to be waited for."""
        return [task for session in self._sessions.values() for task in session.dialogue.stop()]

    def _find(self, request: web.Request) -> SseSession | None:
        return self._sessions.get(request.query.get("session_id", ""))

    def _begin(self, session: SseSession, request: web.Request, message: Message) -> None:
        if ENDS_AFTER not in request:
            session.dialogue.begin(message, session.stream.send)
            return
        task = session.dialogue.begin(message, lambda unsent: None)
        task.add_done_callback(lambda _: session.stream.end())
