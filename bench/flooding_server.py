"""A stdio server that answers, and from its first call on says more than anyone wants to hear, on stdout and stderr.

Run as `python -I -S flooding_server.py`: nothing but the standard library.
"""

import json
import os
import sys
import threading

TYPE_CHECKING = False  # importing `typing` costs as much as the whole start
if TYPE_CHECKING:
    from typing import Any

    Message = dict[str, Any]

# As much as a pipe holds.
PIPEFUL = 1 << 16

NOTE = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "still here"}}
COMPLAINT = b"I have a bad feeling about this\n"
TOOLS = [{"name": "begin", "description": "Begin to flood.", "inputSchema": {"type": "object"}}]

writing = threading.Lock()


def main() -> None:
    has_begun = False
    for line in sys.stdin.buffer:
        message = json.loads(line)
        if "id" not in message or "method" not in message:
            continue
        send(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result(message)}).encode() + b"\n")
        if message["method"] == "tools/call" and not has_begun:
            has_begun = True
            threading.Thread(target=flood_stdout, daemon=True).start()
            threading.Thread(target=flood_stderr, daemon=True).start()
    # The threads hold locks that the interpreter would wait for.
    os._exit(0)


def result(message: "Message") -> "Message":
    if message["method"] == "initialize":
        info = {"name": "flooding_server", "version": "1"}
        version = message["params"]["protocolVersion"]
        return {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info}
    if message["method"] == "tools/list":
        return {"tools": TOOLS}
    if message["method"] == "tools/call":
        return {"content": [{"type": "text", "text": "begun"}]}
    return {}


def flood_stdout() -> None:
    line = json.dumps(NOTE).encode() + b"\n"
    pipeful = line * (PIPEFUL // len(line))
    while True:
        send(pipeful)


def flood_stderr() -> None:
    pipeful = COMPLAINT * (PIPEFUL // len(COMPLAINT))
    while True:
        write(2, pipeful)


def send(lines: bytes) -> None:
    with writing:
        write(1, lines)


def write(fd: int, content: bytes) -> None:
    while content:
        content = content[os.write(fd, content) :]


main()
