"""What a server says: the answers to one client's requests, in either era of MCP."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from mcp.shared.subscriptions import SUBSCRIPTION_ID_META_KEY
from mcp_types import INVALID_PARAMS, METHOD_NOT_FOUND, SERVER_INFO_META_KEY
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, LATEST_HANDSHAKE_VERSION, MODERN_PROTOCOL_VERSIONS

from tasak.testing.tools import Message, Refused, Tools
from tasak.testing.witness import CANCEL

INFO = {"name": "http_server", "version": "1"}
CAPABILITIES = {"tools": {"listChanged": True}}
TOOLS_CHANGED = "notifications/tools/list_changed"

# For clients that keep lists.
CACHEABLE = {"ttlMs": 0, "cacheScope": "private"}

Send = Callable[[Message], None]


class Dialogue:
    """Requests under way, a task each. A subclass for each era knows what can be asked."""

    def __init__(self, tools: Tools) -> None:
        self.tools = tools
        self._under_way: dict[asyncio.Task[None], Any] = {}

    def begin(self, message: Message, send: Send) -> "asyncio.Task[None]":
        """Carry out a request: its notifications, if there are any, and then its response are sent.

        A task that is cancelled sends nothing more.
        """
        task = asyncio.create_task(self._respond(message, send), name=f"{message['method']} of {INFO['name']}")
        self._under_way[task] = message["id"]
        task.add_done_callback(lambda task: self._under_way.pop(task, None))
        return task

    def cancel(self, task: "asyncio.Task[None]") -> None:
        """Nobody waits for this one any more."""
        if task in self._under_way:
            self.tools.witness.note(CANCEL)
            task.cancel()

    def cancel_request(self, request: Any) -> None:
        for task, its_request in list(self._under_way.items()):
            if its_request == request:
                self.cancel(task)

    def stop(self) -> "list[asyncio.Task[None]]":
        """Give up on all that is under way, as a process that dies does; what is to be waited for."""
        tasks = list(self._under_way)
        self._under_way.clear()
        for task in tasks:
            task.cancel()
        return tasks

    async def response(self, message: Message, notify: Send = lambda message: None) -> Message:
        """Carry out a request; its JSON-RPC response."""
        envelope = {"jsonrpc": "2.0", "id": message.get("id")}
        try:
            return {**envelope, "result": await self.result(message, notify)}
        except Refused as refusal:
            return {**envelope, "error": {"code": refusal.code, "message": refusal.message}}
        except KeyError as missing:
            return {**envelope, "error": {"code": INVALID_PARAMS, "message": f"{missing} is missing"}}

    async def result(self, message: Message, notify: Send) -> Message:
        """The result of a request.

        Raises:
            Refused: it has none.
        """
        raise NotImplementedError

    async def _respond(self, message: Message, send: Send) -> None:
        send(await self.response(message, send))

    async def _call(self, message: Message, notify: Send) -> Message:
        params = message["params"]
        token = params.get("_meta", {}).get("progressToken")

        def report(done: int, total: int) -> None:
            if token is not None:
                notify(progress(token, done, total))

        return await self.tools.call(params["name"], params.get("arguments") or {}, report)


class HandshakeDialogue(Dialogue):
    """2024-11-05 to 2025-11-25: begins with `initialize`."""

    version = LATEST_HANDSHAKE_VERSION

    async def result(self, message: Message, notify: Send) -> Message:
        match message["method"]:
            case "initialize":
                asked = message["params"]["protocolVersion"]
                self.version = asked if asked in HANDSHAKE_PROTOCOL_VERSIONS else LATEST_HANDSHAKE_VERSION
                return {"protocolVersion": self.version, "capabilities": CAPABILITIES, "serverInfo": INFO}
            case "ping":
                return {}
            case "tools/list":
                return {"tools": [*self.tools.listed]}
            case "tools/call":
                return await self._call(message, notify)
        raise unknown(message)


class StatelessDialogue(Dialogue):
    """2026-07-28: no session; each request stands for itself."""

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        self._listeners: dict[Send, Any] = {}

    async def result(self, message: Message, notify: Send) -> Message:
        result = await self._result(message, notify)
        return {**result, "resultType": "complete", "_meta": {SERVER_INFO_META_KEY: INFO}}

    async def _result(self, message: Message, notify: Send) -> Message:
        match message["method"]:
            case "server/discover":
                return {"supportedVersions": [*MODERN_PROTOCOL_VERSIONS], "capabilities": CAPABILITIES, **CACHEABLE}
            case "tools/list":
                return {"tools": [*self.tools.listed], **CACHEABLE}
            case "tools/call":
                return await self._call(message, notify)
            case "subscriptions/listen":
                return await self._listen(message, notify)
        raise unknown(message)

    def tools_changed(self) -> None:
        for notify, subscription in self._listeners.items():
            notify(note(TOOLS_CHANGED, {"_meta": {SUBSCRIPTION_ID_META_KEY: subscription}}))

    async def _listen(self, message: Message, notify: Send) -> Message:
        subscription = message["id"]
        asked = message["params"].get("notifications") or {}
        heard = {"toolsListChanged": True} if asked.get("toolsListChanged") else {}
        meta = {SUBSCRIPTION_ID_META_KEY: subscription}
        notify(note("notifications/subscriptions/acknowledged", {"notifications": heard, "_meta": meta}))
        try:
            if heard:
                self._listeners[notify] = subscription
            await asyncio.Event().wait()  # the client ends it by leaving
        finally:
            self._listeners.pop(notify, None)
        return {}


def progress(token: Any, done: int, total: int) -> Message:
    return note("notifications/progress", {"progressToken": token, "progress": done, "total": total})


def note(method: str, params: Mapping[str, Any] | None = None) -> Message:
    return {"jsonrpc": "2.0", "method": method, **({} if params is None else {"params": dict(params)})}


def unknown(message: Message) -> Refused:
    return Refused(METHOD_NOT_FOUND, f"no method {message['method']}")
