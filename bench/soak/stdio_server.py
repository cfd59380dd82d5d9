"""A stdio server that writes down each call before it answers it, and that goes wrong now and then if it is told to.

Run as `python -I -S stdio_server.py [SEED]`: nothing but the standard library. The file $EXEC gets the `text` of each
call, a line each. With a seed it is flaky: it dies before, during and after calls, and talks nonsense in between.
"""

import json
import os
import sys
import threading

TYPE_CHECKING = False  # importing `typing` costs as much as the whole start
if TYPE_CHECKING:
    from typing import Any

    Message = dict[str, Any]

EXEC = os.open(os.environ["EXEC"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

TEXT = {"text": {"type": "string"}}
TOOLS = {
    "echo": TEXT,
    "sleep": {**TEXT, "seconds": {"type": "number"}},
    "refuse": {**TEXT, "code": {"type": "integer"}},
}

# How often one that is flaky does what, of a thousand starts and of a thousand calls.
STARTS_BADLY = 100
SHAKES_NO_HANDS = 20
DIES_IN_A_CALL = 4
LEAVES_AFTER_A_CALL = 4
CLOSES_STDOUT = 1
TALKS_NONSENSE = 20

NONSENSE = (b"Listening on port 3000\n", b"\n", b"null\n", b'{"jsonrpc": "2.0"}\n', b"\xff\xfe\n", b"[[[[\n")

writing = threading.Lock()
cancelled = threading.Condition()
cancelled_ids: "set[Any]" = set()


def main(seed: str = "") -> None:
    chance = Chance(seed)
    if chance.is_one_in_a_thousand(STARTS_BADLY):
        sys.exit(3)
    is_silent = chance.is_one_in_a_thousand(SHAKES_NO_HANDS)
    for line in sys.stdin.buffer:
        message = json.loads(line)
        if message.get("method") == "notifications/cancelled":
            with cancelled:
                cancelled_ids.add(message["params"]["requestId"])
                cancelled.notify_all()
        elif "id" in message and "method" in message and not is_silent:
            respond(message, chance)


class Chance:
    """What happens by chance, from one seed and this process's number; without a seed nothing does."""

    def __init__(self, seed: str) -> None:
        self._random: Any = None
        if seed:
            from random import Random  # Lazy: most servers are not flaky.

            self._random = Random(f"{seed}.{os.getpid()}")

    def is_one_in_a_thousand(self, times: int) -> bool:
        return self._random is not None and self._random.randrange(1000) < times


def respond(message: "Message", chance: Chance) -> None:
    method, params = message["method"], message.get("params") or {}
    if method == "initialize":
        answer(message, result=hello(params["protocolVersion"]))
    elif method == "tools/list":
        answer(message, result={"tools": [describe(name, properties) for name, properties in TOOLS.items()]})
    elif method == "tools/call":
        note(params["arguments"]["text"])
        go_wrong_in_a_call(chance)
        if params["name"] == "echo":
            call(message, **params["arguments"])
        else:
            # A thread, so that a slow tool does not keep the others waiting.
            threading.Thread(target=call, args=(message,), kwargs=params["arguments"], daemon=True).start()
        go_wrong_after_a_call(chance)
    else:
        answer(message, result={})


def call(message: "Message", text: str, seconds: float = 0.0, code: int = 0) -> None:
    if code:
        answer(message, error={"code": code, "message": "refused"})
        return
    with cancelled:
        was_cancelled = seconds and cancelled.wait_for(lambda: message["id"] in cancelled_ids, seconds)
    if not was_cancelled:
        answer(message, result={"content": [{"type": "text", "text": text}]})


def go_wrong_in_a_call(chance: Chance) -> None:
    if chance.is_one_in_a_thousand(TALKS_NONSENSE):
        write(b"".join(NONSENSE))
        os.write(2, b"".join(NONSENSE))
    if chance.is_one_in_a_thousand(DIES_IN_A_CALL):
        os._exit(9)
    if chance.is_one_in_a_thousand(CLOSES_STDOUT):
        os.close(1)


def go_wrong_after_a_call(chance: Chance) -> None:
    if chance.is_one_in_a_thousand(LEAVES_AFTER_A_CALL):
        os._exit(0)


def note(text: str) -> None:
    os.write(EXEC, f"{text}\n".encode())


def describe(name: str, properties: "Message") -> "Message":
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {"name": name, "description": f"The tool {name}.", "inputSchema": schema}


def hello(version: str) -> "Message":
    info = {"name": "soak", "version": "1"}
    return {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info}


def answer(message: "Message", **what: "Any") -> None:
    write(json.dumps({"jsonrpc": "2.0", "id": message["id"], **what}).encode() + b"\n")


def write(line: bytes) -> None:
    with writing:
        while line:
            line = line[os.write(1, line) :]


main(*sys.argv[1:])
