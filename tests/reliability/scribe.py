"""An MCP server that writes down what it is told to do before it does it, with nothing but the standard library.

Run as `python -I -S scribe.py`. Its tools `write` and `write_again` append their `mark` to the file $EXEC: the witness
of each call that has run. `then` says what they do next:

answer   the mark is the result
hold     nothing, until a file `$EXEC.MARK` is there or the request is cancelled
error    a result that is an error
refuse   a JSON-RPC error
die      the process ends
"""

import json
import os
import sys
import threading
import time

TYPE_CHECKING = False  # importing `typing` costs as much as the whole start
if TYPE_CHECKING:
    from typing import Any

    Message = dict[str, Any]

EXEC = os.environ["EXEC"]
POLL_INTERVAL = 0.005
TEXT = {"type": "string"}
SCHEMA = {"type": "object", "properties": {"mark": TEXT, "then": TEXT}, "required": ["mark", "then"]}
TOOLS = [{"name": name, "inputSchema": SCHEMA} for name in ("write", "write_again")]

writing = threading.Lock()
cancelled: "set[Any]" = set()


def main() -> None:
    for line in sys.stdin.buffer:
        message = json.loads(line)
        if message.get("method") == "notifications/cancelled":
            cancelled.add(message["params"]["requestId"])
        elif "id" in message:
            respond(message)


def respond(message: "Message") -> None:
    method, params = message["method"], message.get("params") or {}
    if method == "initialize":
        info = {"name": "scribe", "version": "1"}
        version = params["protocolVersion"]
        send(message, result={"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info})
    elif method == "tools/list":
        send(message, result={"tools": TOOLS})
    elif method == "tools/call":
        note(params["arguments"]["mark"])
        # A thread, so that a call that is held does not hold the others.
        threading.Thread(target=obey, args=(message,), kwargs=params["arguments"], daemon=True).start()
    else:
        send(message, result={})


def note(mark: str) -> None:
    file = os.open(EXEC, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(file, f"{mark}\n".encode())
    os.close(file)


def obey(message: "Message", mark: str, then: str) -> None:
    if then == "die":
        os._exit(9)
    if then == "hold":
        while not os.path.exists(f"{EXEC}.{mark}"):
            if message["id"] in cancelled:
                return
            time.sleep(POLL_INTERVAL)
    if then == "refuse":
        send(message, error={"code": -32603, "message": "refused"})
    else:
        send(message, result={"content": [{"type": "text", "text": mark}], "isError": then == "error"})


def send(message: "Message", **what: "Any") -> None:
    line = json.dumps({"jsonrpc": "2.0", "id": message["id"], **what}).encode() + b"\n"
    with writing:
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()


main()
