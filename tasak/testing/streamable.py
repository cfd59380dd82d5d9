"""The endpoint of streamable HTTP: sessions for those who shake hands, none for those who do not."""

import asyncio
import secrets
from collections.abc import Callable, Collection, Iterator
from itertools import count
from typing import Any, Literal

from aiohttp import web
from mcp.shared.inbound import (
    ERROR_CODE_HTTP_STATUS,
    MCP_PROTOCOL_VERSION_HEADER,
    InboundLadderRejection,
    classify_inbound_request,
    unsupported_protocol_version_rejection,
    validate_mcp_param_headers,
)
from mcp_types import INVALID_REQUEST
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS

from tasak.plugin import Era
from tasak.testing.dialogue import TOOLS_CHANGED, HandshakeDialogue, StatelessDialogue, note
from tasak.testing.faults import ENDS_AFTER
from tasak.testing.streams import EventStream, event, event_id, parsed_id, write
from tasak.testing.tools import Message, Tools

MESSAGE = web.RequestKey("message", dict)

SESSION_HEADER = "Mcp-Session-Id"

Form = Literal["json", "sse", "either"]
"""How requests are answered. `either` is JSON, unless there is progress to tell."""

# Milliseconds after which a client that lost a stream may come back.
RETRY = 10

# The first version whose streams begin with an id.
PRIMED = "2025-11-25"

# What the MCP SDK's server answers where the client has cancelled: the stream wants an end.
REQUEST_CANCELLED = -32800


class Session:
    """One client that has shaken hands."""

    def __init__(self, tools: Tools) -> None:
        self.id = secrets.token_hex(16)
        self.dialogue = HandshakeDialogue(tools)
        self.standing = EventStream("standing")
        """What belongs to no request; a client hears it by GET."""
        self.heard = 0
        """How many of these messages have been sent."""
        self.streams = {self.standing.name: self.standing}
        self._numbers = count(1)

    def new_stream(self) -> EventStream:
        stream = EventStream(f"request-{next(self._numbers)}")
        self.streams[stream.name] = stream
        return stream

    def note_heard(self, number: int) -> None:
        self.heard = number


class Sessions:
    """Those that are open."""

    def __init__(self) -> None:
        self._open: dict[str, Session] = {}

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._open.values()))

    def __len__(self) -> int:
        return len(self._open)

    def begin(self, tools: Tools) -> Session:
        session = Session(tools)
        self._open[session.id] = session
        return session

    def find(self, request: web.Request) -> Session | None:
        return self._open.get(request.headers.get(SESSION_HEADER, ""))

    def end(self, session: Session) -> None:
        self._open.pop(session.id, None)
        session.dialogue.stop()
        session.standing.end()

    def forget(self) -> None:
        """End them all; whoever comes back with the id of one is answered 404."""
        for session in self:
            self.end(session)


class StreamableHttp:
    """The endpoint. What may change while it serves is public."""

    def __init__(self, new_tools: Callable[[], Tools], *, eras: Collection[Era], form: Form) -> None:
        self.eras = eras
        self.form = form
        self.sessions = Sessions()
        self._new_tools = new_tools
        self._stateless = StatelessDialogue(new_tools())

    async def post(self, request: web.Request) -> web.StreamResponse:
        message = request[MESSAGE]
        if refusal := refusal_of_form(request, message):
            return refusal
        if self._is_stateless(request):
            return await self._answer_stateless(request, message)
        if message.get("method") == "initialize":
            return await self._greet(request, message)
        session = self.sessions.find(request)
        if session is None:
            return no_session(request)
        if (
            request.headers.get(MCP_PROTOCOL_VERSION_HEADER, session.dialogue.version)
            not in HANDSHAKE_PROTOCOL_VERSIONS
        ):
            return web.Response(status=400, text=f"there is no session of the {MCP_PROTOCOL_VERSION_HEADER}")
        if "id" not in message or "method" not in message:
            return self._take_note(session, message)
        return await self._answer_in(session, request, message)

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Listen to what belongs to no request, or have the rest of a stream that was lost."""
        if "handshake" not in self.eras:
            return not_allowed()
        session = self.sessions.find(request)
        if session is None:
            return no_session(request)
        try:
            lost, after = parsed_id(request.headers.get("Last-Event-ID", f"{session.standing.name}/{session.heard}"))
            stream = session.streams[lost]
        except (ValueError, KeyError):
            return web.Response(status=400, text="there is no such event")
        on_sent = session.note_heard if stream is session.standing else None
        return await write(request, stream, after=after, is_resumable=True, on_sent=on_sent)

    async def delete(self, request: web.Request) -> web.StreamResponse:
        if "handshake" not in self.eras:
            return not_allowed()
        session = self.sessions.find(request)
        if session is None:
            return no_session(request)
        self.sessions.end(session)
        return web.Response(status=204)

    async def execute(self, request: web.Request, message: Message) -> Message:
        """Carry a request out, for a fault that spoils its answer."""
        if self._is_stateless(request):
            return await self._stateless.response(message)
        session = self.sessions.find(request) or Session(self._new_tools())
        return await session.dialogue.response(message)

    def tools_changed(self) -> None:
        """Tell every client that listens."""
        self._stateless.tools_changed()
        for session in self.sessions:
            session.standing.send(note(TOOLS_CHANGED))

    def stop(self) -> "list[asyncio.Task[None]]":
        """Give up on all that is under way; what is to be waited for. Nothing is remembered."""
        ended = self._stateless.stop()
        for session in self.sessions:
            ended += session.dialogue.stop()
        self.sessions.forget()
        self._stateless = StatelessDialogue(self._new_tools())
        return ended

    def _is_stateless(self, request: web.Request) -> bool:
        version = request.headers.get(MCP_PROTOCOL_VERSION_HEADER)
        return "handshake" not in self.eras or (
            "stateless" in self.eras and version is not None and version not in HANDSHAKE_PROTOCOL_VERSIONS
        )

    async def _answer_stateless(self, request: web.Request, message: Message) -> web.StreamResponse:
        if "method" not in message:
            return web.Response(status=400, text="nothing was asked")
        if "id" not in message:
            return web.Response(status=202)
        if rejection := self._rejection(request, message):
            return refused(message, rejection)
        dialogue, stream = self._stateless, EventStream()
        task = dialogue.begin(message, stream.send)
        task.add_done_callback(lambda _: stream.end())
        try:
            return await self._answer(request, stream)
        except (asyncio.CancelledError, ConnectionError):
            dialogue.cancel(task)  # the client left, which means that; else it was stopped before
            raise

    def _rejection(self, request: web.Request, message: Message) -> InboundLadderRejection | None:
        """Whether headers and body contradict each other, or the server (MCP 2026-07-28, basic/transports)."""
        if message["method"] == "initialize":
            return unsupported_protocol_version_rejection(message.get("params", {}).get("protocolVersion", ""))
        headers = {name.lower(): value for name, value in request.headers.items()}
        verdict = classify_inbound_request(message, headers=headers)
        if isinstance(verdict, InboundLadderRejection):
            return verdict
        params = message["params"]
        listed = [tool for tool in self._stateless.tools.listed if tool["name"] == params.get("name")]
        if message["method"] != "tools/call" or not listed:
            return None
        return validate_mcp_param_headers(listed[0]["inputSchema"], params.get("arguments") or {}, headers)

    async def _greet(self, request: web.Request, message: Message) -> web.StreamResponse:
        session = self.sessions.begin(self._new_tools())
        return await self._answer_in(session, request, message)

    def _take_note(self, session: Session, message: Message) -> web.Response:
        if message.get("method") == "notifications/cancelled":
            session.dialogue.cancel_request(message["params"]["requestId"])
        return web.Response(status=202)

    async def _answer_in(self, session: Session, request: web.Request, message: Message) -> web.StreamResponse:
        stream = session.new_stream()
        task = session.dialogue.begin(message, stream.send)
        task.add_done_callback(lambda task: finish(stream, message, task))
        answer = await self._answer(request, stream, session=session)
        if ENDS_AFTER not in request:  # else somebody may come back for the rest
            del session.streams[stream.name]
        return answer

    async def _answer(
        self, request: web.Request, stream: EventStream, *, session: Session | None = None
    ) -> web.StreamResponse:
        headers = {SESSION_HEADER: session.id} if session else {}
        if ENDS_AFTER not in request and (response := await self._as_json(stream)):
            code = response.get("error", {}).get("code")
            status = 200 if session else ERROR_CODE_HTTP_STATUS.get(code, 200)
            return web.json_response(response, status=status, headers=headers)
        first = b""
        if session and session.dialogue.version >= PRIMED:
            first = event("", id=event_id(stream, 0), retry=RETRY)
        until = request.get(ENDS_AFTER)
        return await write(request, stream, until=until, first=first, is_resumable=session is not None, headers=headers)

    async def _as_json(self, stream: EventStream) -> Message | None:
        """The response, where JSON is what it is sent as."""
        if self.form == "sse":
            return None
        for number in count(1):
            message = await stream.message(number)
            if message is None or "id" in message:
                return message
            if self.form == "either":
                return None
        return None


def refusal_of_form(request: web.Request, message: Message) -> web.Response | None:
    """What no message may look like, whatever it says."""
    accepted = request.headers.get("Accept", "")
    if not all(each in accepted for each in ("application/json", "text/event-stream")):
        return web.Response(status=406, text="accept application/json and text/event-stream")
    if request.content_type != "application/json":
        return web.Response(status=415, text="send application/json")
    if message.get("jsonrpc") != "2.0":
        return web.Response(status=400, text="the body is not one JSON-RPC message")
    return None


def no_session(request: web.Request) -> web.Response:
    if SESSION_HEADER in request.headers:
        return error(404, None, INVALID_REQUEST, "there is no such session")
    return error(400, None, INVALID_REQUEST, f"{SESSION_HEADER} is missing")


def not_allowed() -> web.Response:
    return web.Response(status=405, headers={"Allow": "POST"})


def refused(message: Message, rejection: InboundLadderRejection) -> web.Response:
    status = ERROR_CODE_HTTP_STATUS.get(rejection.code, 400)
    return error(status, message["id"], rejection.code, rejection.message, rejection.data)


def error(status: int, request: Any, code: int, message: str, detail: Any = None) -> web.Response:
    body = {"code": code, "message": message, **({} if detail is None else {"data": detail})}
    return web.json_response({"jsonrpc": "2.0", "id": request, "error": body}, status=status)


def finish(stream: EventStream, message: Message, task: "asyncio.Task[None]") -> None:
    if task.cancelled():
        failure = {"code": REQUEST_CANCELLED, "message": "request cancelled"}
        stream.send({"jsonrpc": "2.0", "id": message["id"], "error": failure})
    stream.end()
