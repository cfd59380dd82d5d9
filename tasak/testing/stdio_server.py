"""An MCP server on stdio with nothing but the standard library: it starts in a few milliseconds, a thousand times over.

Run it as `python -I -S stdio_server.py`. It speaks both eras of MCP. Each `tools/call` appends its tool's name to the
file that the environment variable `EXEC` names, before it is answered: the witness of what has run. A cancelled request
is witnessed as `cancel`.
"""

import json
import os
import sys
import threading

TYPE_CHECKING = False  # importing `typing` costs as much as the whole start
if TYPE_CHECKING:
    from typing import Any

    Message = dict[str, Any]

TEXT = {"type": "string"}
INTEGER = {"type": "integer"}
NUMBER = {"type": "number"}

# Each tool's parameters; all of them are required.
TOOLS: "dict[str, Message]" = {
    "echo": {"text": TEXT},
    "counter": {},
    "sleep": {"seconds": NUMBER},
    "progress": {"steps": INTEGER, "seconds": NUMBER},
    "big": {"size": INTEGER},
    "fail": {"reason": TEXT},
    "refuse": {"code": INTEGER},
    "die": {"status": INTEGER},
    "environment": {},
    "where": {},
    "complain": {"text": TEXT},
}

# What a server of MCP 2026-07-28 says of itself and of each result. It is asked so by name in every request.
STATELESS = "2026-07-28"
VERSION_KEY = "io.modelcontextprotocol/protocolVersion"

written = threading.Lock()
cancelled = threading.Condition()
cancelled_ids: "set[Any]" = set()
count = 0


def main() -> None:
    for line in sys.stdin.buffer:
        message = json.loads(line)
        if message.get("method") == "notifications/cancelled":
            witness("cancel")
            with cancelled:
                cancelled_ids.add(message["params"]["requestId"])
                cancelled.notify_all()
        elif "id" in message and "method" in message:
            respond(message)


def respond(message: "Message") -> None:
    method, params = message["method"], message.get("params") or {}
    if method == "initialize":
        answer(message, result=hello(params["protocolVersion"]))
    elif method == "server/discover":
        answer(message, result={"supportedVersions": [STATELESS], "capabilities": {"tools": {}}})
    elif method == "ping":
        answer(message, result={})
    elif method == "tools/list":
        answer(message, result={"tools": [describe(name, properties) for name, properties in TOOLS.items()]})
    elif method == "tools/call":
        witness(params["name"])
        # A thread, so that a slow tool does not keep the others waiting.
        given = params.get("arguments") or {}
        threading.Thread(target=call, args=(message, params["name"], given), daemon=True).start()
    else:
        answer(message, error={"code": -32601, "message": f"no method {method}"})


def call(message: "Message", name: str, given: "Message") -> None:
    global count
    if name == "counter":
        count += 1
        text(message, str(count))
    elif name == "sleep":
        if not wait(message["id"], given["seconds"]):
            text(message, "slept")
    elif name == "progress":
        token = message["params"].get("_meta", {}).get("progressToken")
        for step in range(given["steps"]):
            if wait(message["id"], given["seconds"]):
                return
            params = {"progressToken": token, "progress": step + 1, "total": given["steps"]}
            send({"method": "notifications/progress", "params": params})
        text(message, "done")
    elif name == "big":
        text(message, "x" * given["size"])
    elif name == "fail":
        text(message, given["reason"], is_error=True)
    elif name == "refuse":
        answer(message, error={"code": given["code"], "message": "refused"})
    elif name == "die":
        sys.stderr.write("dying as asked\n")
        sys.stderr.flush()
        os._exit(given["status"])
    elif name == "environment":
        text(message, json.dumps(dict(os.environ)))
    elif name == "where":
        text(message, os.getcwd())
    elif name == "complain":
        sys.stderr.write(given["text"] + "\n")
        sys.stderr.flush()
        text(message, "complained")
    elif name == "echo":
        text(message, given.get("text", ""))
    else:
        answer(message, error={"code": -32602, "message": f"no tool {name}"})


def wait(request: "Any", seconds: float) -> bool:
    """Whether the request was cancelled meanwhile."""
    with cancelled:
        return cancelled.wait_for(lambda: request in cancelled_ids, seconds)


def witness(word: str) -> None:
    if path := os.environ.get("EXEC"):
        with open(path, "a") as file:
            file.write(f"{word}\n")


def describe(name: str, properties: "Message") -> "Message":
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {"name": name, "description": f"The tool {name}.", "inputSchema": schema}


def hello(version: str) -> "Message":
    info = {"name": "stdio_server", "version": "1"}
    return {"protocolVersion": version, "capabilities": {"tools": {"listChanged": True}}, "serverInfo": info}


def text(message: "Message", content: str, *, is_error: bool = False) -> None:
    answer(message, result={"content": [{"type": "text", "text": content}], "isError": is_error})


def answer(message: "Message", **what: "Any") -> None:
    meta = (message.get("params") or {}).get("_meta") or {}
    if "result" in what and meta.get(VERSION_KEY) == STATELESS:
        what["result"].update(resultType="complete", ttlMs=0, cacheScope="private")
    send({"id": message["id"], **what})


def send(message: "Message") -> None:
    line = json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n"
    with written:
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()


main()
