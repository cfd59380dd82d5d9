"""mcp-remote as a running program: what it says of itself, and the requests that it could not bring to its server.

It is a proxy in Node.js, started by `npx`; it reads its stdin only once it has reached the server and is signed in.
"""

import asyncio
import os
import re
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

import anyio

from tasak.errors import OutcomeUnknown
from tasak.plugin import LineSource
from tasak.transports.birth import Program
from tasak.transports.child import Child, Streams
from tasak.transports.lines import LineReader, LineWriter
from tasak.transports.stderr import StderrLog

if TYPE_CHECKING:
    from mcp.shared.message import SessionMessage
    from mcp_types import JSONRPCMessage, RequestId

STACK_FRAME = re.compile(r"^\s+at ")


class Signs:
    """What mcp-remote says on stderr about its sign-in: the one place where a text decides.

    The words are those of 0.15.1, and were the same in 0.1.16.
    """

    # It begins each message with its pid; further lines of the message come without.
    _PID = re.compile(r"^\[\d+\] ")
    # The URL follows on a line of its own. The second is what `--device-code` asks with; a code may follow later.
    _PROMPTS = ("Please authorize this client by visiting:", "To authorize this client, visit:")
    _URL = re.compile(r"^https?://\S+$")
    _CODE = re.compile(r"^And enter the code: (\S+)$")
    # It waits until that one has stored its tokens, for three minutes.
    _ELSEWHERE = re.compile(r"^Another instance is (running the sign-in|handling authentication)\b")
    _ESTABLISHED = "Proxy established successfully"

    def __init__(self, on_prompt: Callable[[str], None]) -> None:
        self.established = asyncio.Event()
        """Set once it is signed in and passes messages on."""
        self.prompt: str | None = None
        """What the user has to do, once it has asked for a sign-in."""
        self.on_prompt = on_prompt
        self._is_url_next = False

    def hear(self, line: str) -> None:
        """Take in one line; `on_prompt` is called with each new prompt."""
        said = self._PID.sub("", line).strip()
        if said in self._PROMPTS:
            self._is_url_next = True
        elif self._is_url_next and self._URL.match(said):
            self._is_url_next = False
            self._ask(f"open {said}")
        elif self.prompt and (code := self._CODE.match(said)):
            self._ask(f"{self.prompt} and enter the code {code[1]}")
        elif self._ELSEWHERE.match(said):
            self._ask("finish the sign-in that another program on this machine waits for, or end that program")
        elif said.startswith(self._ESTABLISHED):
            self.established.set()

    def _ask(self, prompt: str) -> None:
        if prompt != self.prompt:
            self.prompt = prompt
            self.on_prompt(prompt)


class Proxy(Child):
    """A running mcp-remote, which ends when it asks for a sign-in in the middle of a session."""

    signs: Signs

    def __init__(self, program: Program[Streams], command: Sequence[str], stderr: StderrLog) -> None:
        super().__init__(program, command, stderr)
        self._requests = Requests()
        self.read = ProxyReader(program.protocol.lines, self._requests)
        self.write = ProxyWriter(self._stdin, self._requests)
        self._has_lapsed = False

    @classmethod
    async def start(
        cls,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        app_log: Path | None,
        on_prompt: Callable[[str], None],
    ) -> Self:
        """Start it. `on_prompt` is told what the user has to do, where the server wants a sign-in.

        Raises:
            ConnectFailed: it cannot be started.
        """
        signs = Signs(on_prompt)
        stderr = StderrLog(app_log, signs.hear)
        # In no project's folder: npx would take an mcp-remote that it finds there.
        proxy = await cls.spawn(command, environment=environment, directory=os.path.sep, stderr=stderr)
        proxy.signs = signs
        return proxy

    @property
    def is_established(self) -> bool:
        return self.signs.established.is_set()

    @property
    def is_gone(self) -> bool:
        # It and npx have both let go of it.
        return self._stderr_task.done()

    async def settled(self, patience: float | None = None) -> None:
        """Wait until it is established, or gone.

        With `patience` so many seconds at the most, unless it waits for the user: then as long as that takes.
        """
        established = asyncio.ensure_future(self.signs.established.wait())
        waits = [established, self._stderr_task]
        try:
            done, _ = await asyncio.wait(waits, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            if not done and self.signs.prompt:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            established.cancel()

    def end_when_asked(self) -> None:
        """From now on a prompt is the end: nobody would answer it, and what is asked meanwhile would wait for it.

        And whenever the user did sign in, mcp-remote would send that on, long after its callers have given it up.
        """
        self.signs.on_prompt = self._lapse

    def last_words(self) -> Sequence[str]:
        # The frames of a stack would push out the error that they belong to.
        return [line for line in super().last_words() if not STACK_FRAME.match(line)]

    async def why_ended(self) -> str:
        return "the server wants a sign-in before it goes on" if self._has_lapsed else await super().why_ended()

    async def aclose(self) -> None:
        self._requests.end()
        if not self.is_established:
            # It does not read its stdin yet, and would not notice the end of it.
            self._signal_group(signal.SIGTERM)
        await super().aclose()

    def _lapse(self, _: str) -> None:
        self._has_lapsed = True
        self._signal_group(signal.SIGKILL)


class Requests:
    """The requests that mcp-remote has not answered yet, so that one that it fails with fails alone."""

    # With these it answers a request that it could not bring to the server, or whose answer it could not bring back.
    # As they are, they would look like the server's own.
    _CODE = -32001
    _MESSAGE = "mcp-remote: "

    def __init__(self) -> None:
        self._underway: dict[str, asyncio.Future[None]] = {}

    def begin(self, request: "RequestId") -> "asyncio.Future[None]":
        """What is done once the request is answered; it raises what mcp-remote answered in place of the server."""
        fate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # As text, since a server may send the id back as text.
        self._underway[str(request)] = fate
        fate.add_done_callback(lambda _: self._underway.pop(str(request), None))
        # A failure is no news to whoever has given up waiting.
        fate.add_done_callback(lambda done: done.cancelled() or done.exception())
        return fate

    def takes(self, message: "JSONRPCMessage") -> bool:
        """Whether it is such an answer; it is then dealt with."""
        # Lazy: whoever has a message has imported it.
        from mcp_types import JSONRPCError, JSONRPCResponse

        match message:
            case JSONRPCError(error=error) if error.code == self._CODE and error.message.startswith(self._MESSAGE):
                return self._settle(message.id, OutcomeUnknown(error.message))
            case JSONRPCError() | JSONRPCResponse():
                self._settle(message.id, None)
        return False

    def end(self) -> None:
        """There will be no more answers."""
        for request in list(self._underway):
            self._settle(request, None)

    def _settle(self, request: "RequestId | None", problem: OutcomeUnknown | None) -> bool:
        fate = self._underway.get(str(request))
        if fate is None or fate.done():
            return False
        if problem:
            fate.set_exception(problem)
        else:
            fate.set_result(None)
        return True


class ProxyReader(LineReader):
    """The `read` half, less the errors that are mcp-remote's own."""

    def __init__(self, stream: LineSource, requests: Requests) -> None:
        super().__init__(stream)
        self._requests = requests

    def offer_to(self, takes: Callable[[bytes], bool]) -> None:
        """To nobody: each message has to be looked at here."""

    async def receive(self) -> "SessionMessage | Exception":
        try:
            while True:
                item = await super().receive()
                if isinstance(item, Exception) or not self._requests.takes(item.message):
                    return item
        except anyio.EndOfStream:
            self._requests.end()
            raise


class ProxyWriter(LineWriter):
    """The `write` half. A request is under way until it is answered, so that it can fail alone."""

    def __init__(self, stream: asyncio.StreamWriter, requests: Requests) -> None:
        super().__init__(stream)
        self._requests = requests

    async def send(self, item: "SessionMessage") -> None:
        """Write one message; a request's `send` ends when its answer is there.

        Raises:
            OutcomeUnknown: mcp-remote could not bring the request to the server, or the answer back.
        """
        # Lazy: whoever has a message has imported it.
        from mcp_types import JSONRPCRequest

        if not isinstance(item.message, JSONRPCRequest):
            return await super().send(item)
        fate = self._requests.begin(item.message.id)
        try:
            await super().send(item)
            await fate
        finally:
            fate.cancel()
