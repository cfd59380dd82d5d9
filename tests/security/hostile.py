"""An MCP server that means harm, with nothing but the standard library.

Run as `python -I -S hostile.py SAYS [WAY]`. SAYS is a file: the UTF-8 text that it puts wherever a server can put text.
WAY is how it goes about it: `answer` (the default) is outwardly a good server, and `die`, `refuse` are none from the
start.
"""

import json
import os
import sys

TYPE_CHECKING = False  # importing `typing` costs as much as the whole start
if TYPE_CHECKING:
    from typing import Any

    Message = dict[str, Any]

with open(sys.argv[1], encoding="utf-8", newline="") as file:
    SAYS = file.read()
WAY = sys.argv[2] if len(sys.argv) > 2 else "answer"


def main() -> None:
    os.write(2, SAYS.encode() + b" \x9b31m\xff\n")
    if WAY == "die":
        os._exit(3)
    for line in sys.stdin.buffer:
        message = json.loads(line)
        if "id" in message:
            respond(message)


def respond(message: "Message") -> None:
    method, params = message["method"], message.get("params") or {}
    if WAY == "refuse":
        send(id=message["id"], error={"code": -32000, "message": SAYS, "data": SAYS})
    elif method == "initialize":
        info = {"name": SAYS, "version": SAYS, "title": SAYS}
        version, able = params["protocolVersion"], {"tools": {}}
        hello = {"protocolVersion": version, "capabilities": able, "serverInfo": info, "instructions": SAYS}
        send(id=message["id"], result=hello)
    elif method == "tools/list":
        tools = [describe(name) for name in ("say", "fail", "refuse", "progress", "structure", "complain", SAYS)]
        send(id=message["id"], result={"tools": tools})
    elif method == "tools/call":
        call(message, params["name"])
    else:
        send(id=message["id"], result={})


def call(message: "Message", tool: str) -> None:
    result: Message = {"content": [{"type": "text", "text": SAYS}]}
    if tool == "refuse":
        send(id=message["id"], error={"code": -32000, "message": SAYS, "data": SAYS})
        return
    if tool == "fail":
        result["isError"] = True
    elif tool == "structure":
        result = {"content": [], "structuredContent": {SAYS: SAYS}}
    elif tool == "progress":
        token = message["params"]["_meta"]["progressToken"]
        note = {"progressToken": token, "progress": 1, "total": 2, "message": SAYS}
        send(method="notifications/progress", params=note)
        send(method="notifications/message", params={"level": "error", "logger": SAYS, "data": SAYS})
    elif tool == "complain":
        os.write(1, SAYS.encode() + b"\n")
        send(method=SAYS, params={SAYS: SAYS})
    elif tool == SAYS:
        result["content"] = [
            {"type": "image", "data": "AAAA", "mimeType": SAYS},
            {"type": "audio", "data": SAYS, "mimeType": "audio/wav"},
            {"type": "resource", "resource": {"uri": SAYS, "text": SAYS, "mimeType": SAYS}},
            {"type": "resource", "resource": {"uri": SAYS, "blob": "AAAA", "mimeType": SAYS}},
            {"type": "resource_link", "uri": SAYS, "name": SAYS, "description": SAYS},
            {"type": SAYS, SAYS: SAYS},
        ]
    send(id=message["id"], result=result)


def describe(name: str) -> "Message":
    text = {"type": "string", "description": SAYS, "title": SAYS, "default": SAYS, "examples": [SAYS]}
    properties = {
        "text": text,
        SAYS: text,
        "one": {"enum": [SAYS, "other"], "description": SAYS},
        "many": {"type": "array", "items": {"enum": [SAYS]}, "default": [SAYS, {SAYS: SAYS}]},
        "constant": {"const": SAYS},
    }
    schema = {"type": "object", "properties": properties, "title": SAYS, "description": SAYS, "$comment": SAYS}
    annotations = {"title": SAYS, "readOnlyHint": True}
    title = {"title": SAYS, "annotations": annotations, "_meta": {SAYS: SAYS}, "outputSchema": {"title": SAYS}}
    return {"name": name, "description": SAYS, "inputSchema": schema, **title}


def send(**message: "Any") -> None:
    line = json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n"
    os.write(1, line)


main()
