"""What is sent to the daemon that must not pass, as tables: a good call but for one thing, and what pages send."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.security.front import CALL, GOOD, Answer, Front
from tests.security.people import OWNER

OK = (200, "")
BAD = (400, "bad_request")
NO_TOKEN = (401, "no_token")
FORBIDDEN = (403, "forbidden")
NO_APP = (404, "unknown_app")
NO_ROUTE = (404, "unknown_route")
WRONG_METHOD = (405, "method_not_allowed")
WRONG_TYPE = (415, "unsupported_media_type")
MISDIRECTED = (421, "misdirected")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A good call but for this, and what it comes to: status and code. In headers, PORT and TOKEN are filled in."""

    headers: Mapping[str, str | None] = field(default_factory=dict)
    """None: it is left out."""
    method: str = "POST"
    path: str = CALL
    body: bytes = GOOD
    answer: tuple[int, str]
    at_socket: tuple[int, str] | None = None
    """Where the socket answers otherwise than TCP."""

    def expected(self, door: str) -> tuple[int, str]:
        return self.at_socket if door == "socket" and self.at_socket else self.answer

    def send(self, front: Front, door: str, user: int = OWNER, *, knows_token: bool = True) -> Answer:
        good = dict(front.headers(door)) | {name: value or "" for name, value in self.headers.items()}
        left_out = {name for name, value in self.headers.items() if value is None}
        if not knows_token:
            left_out.add("Authorization")
        headers = [
            (name, value.replace("PORT", str(front.port)).replace("TOKEN", front.token))
            for name, value in good.items()
            if name not in left_out
        ]
        return front.ask(door, self.method, self.path, headers, self.body, user)


TOKENS = [
    " ",
    "Bearer",
    "Bearer ",
    "bearer TOKEN",
    "TOKEN",
    "Basic TOKEN",
    "Bearer TOKENx",
    "Bearer  TOKEN",
    "Bearer ż",
]

OUR_HOSTS = ["127.0.0.1", "127.0.0.1:PORT", "localhost", "localhost:PORT", "[::1]", "[::1]:PORT"]

OTHER_HOSTS = [
    "evil.example",
    "localhost.evil.example",
    "127.0.0.1.nip.io",
    "127.0.0.1:PORT.evil",
    "127.0.0.1:PORT@evil.example",
    "[::ffff:127.0.0.1]",
    "0.0.0.0:PORT",
    "127.0.0.2:PORT",
    "127.0.0.1:1",
    "LOCALHOST.",
    "",
]

ORIGINS = ["https://evil.example", "null", "http://localhost:3000", "http://127.0.0.1:PORT", ""]

SITES = ["cross-site", "same-site", "same-origin", "none"]

TYPES = [
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "application/jsonx",
    "application/json; charset=x",
    "application/json; charset=utf-16",
    "text/json",
    "",
]

ENCODINGS = ["gzip", "deflate", "br", "zstd", "gzip, identity"]

PATHS = ["//tools/call/fast", f"{CALL}/", "/./tools/call/fast", "/tools%2fcall/fast", "/tools/call/", "/"]

NAMES = ["..%2f..%2fetc", "a%00b", "a%0ab", "%1b%5b31m", "-rf", "%2e", "x" * 300, "%C4%85"]

BODIES = {
    "nested": b'{"tool": "echo", "arguments": {"text": ' + b"[" * 5000 + b"]" * 5000 + b"}}",
    "open brackets": b"[" * 200_000,
    "open objects": b'{"a":' * 100_000,
    "a key twice": b'{"tool": "counter", "tool": "echo", "arguments": {}}',
    "a key twice, deeper": b'{"tool": "echo", "arguments": {"text": "a", "text": "b"}}',
    "NaN": b'{"tool": "echo", "arguments": {"text": NaN}}',
    "infinity": b'{"tool": "echo", "arguments": {"text": 1e999}}',
    "many digits": b'{"tool": "echo", "arguments": {"text": ' + b"9" * 5000 + b"}}",
    "half a pair": b'{"tool": "echo", "arguments": {"text": "\\ud800"}}',
    "no UTF-8": b'{"tool": "echo", "arguments": {"text": "\xff"}}',
    "UTF-16": GOOD.decode().encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + GOOD,
    "two documents": GOOD + GOOD,
    "-Infinity": b'{"tool": "echo", "arguments": {"text": -Infinity}}',
    "no number for a time": b'{"tool": "echo", "arguments": {"text": "a"}, "timeout": NaN}',
    "nothing": b" ",
}

ROWS: dict[str, Row] = {
    "nothing": Row(answer=OK),
    "no token": Row(headers={"Authorization": None}, answer=NO_TOKEN, at_socket=OK),
    **{f"token: {each}": Row(headers={"Authorization": each}, answer=NO_TOKEN, at_socket=OK) for each in TOKENS},
    **{f"host: {each}": Row(headers={"Host": each}, answer=OK) for each in OUR_HOSTS},
    # At the socket, which no name leads to, it says nothing.
    **{f"host: {each}": Row(headers={"Host": each}, answer=MISDIRECTED, at_socket=OK) for each in OTHER_HOSTS},
    **{f"origin: {each}": Row(headers={"Origin": each}, answer=FORBIDDEN) for each in ORIGINS},
    **{f"site: {each}": Row(headers={"Sec-Fetch-Site": each}, answer=FORBIDDEN) for each in SITES},
    "no type": Row(headers={"Content-Type": None}, answer=WRONG_TYPE),
    "type: with its charset": Row(headers={"Content-Type": "Application/JSON; charset=UTF-8"}, answer=OK),
    **{f"type: {each}": Row(headers={"Content-Type": each}, answer=WRONG_TYPE) for each in TYPES},
    **{f"encoding: {each}": Row(headers={"Content-Encoding": each}, answer=WRONG_TYPE) for each in ENCODINGS},
    **{f"upgrade: {each}": Row(headers={"Upgrade": each}, answer=BAD) for each in ("websocket", "h2c")},
    **{f"expect: {each}": Row(headers={"Expect": each}, answer=BAD) for each in ("200-ok", "100-continue, x")},
    "method: HEAD": Row(method="HEAD", answer=(405, "")),
    **{
        f"method: {each}": Row(method=each, answer=WRONG_METHOD)
        for each in ("GET", "PUT", "DELETE", "PATCH", "TRACE", "OPTIONS")
    },
    **{f"path: {each}": Row(path=each, answer=NO_ROUTE) for each in PATHS},
    **{f"app: {each}": Row(path=f"/tools/call/{each}", answer=NO_APP) for each in NAMES},
    **{f"body: {each}": Row(body=BODIES[each], answer=BAD) for each in BODIES},
}

FORM = b'{"tool": "echo", "arguments": {"text": "="}}'
NO_CORS = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
CROSS = {"Origin": "https://evil.example", **NO_CORS}
REBOUND = {"Host": "evil.example:PORT"}
PREFLIGHT = {
    "Origin": "https://evil.example",
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization, content-type",
    "Access-Control-Request-Private-Network": "true",
}
HANDSHAKE = {
    "Connection": "Upgrade, close",
    "Upgrade": "websocket",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}

# As browsers send it, and what a page gets that knows no token. None of it would pass with one.
PAGES: dict[str, Row] = {
    "a form": Row(headers={**CROSS, "Content-Type": "application/x-www-form-urlencoded"}, body=FORM, answer=FORBIDDEN),
    "a form of plain text": Row(headers={**CROSS, "Content-Type": "text/plain"}, body=FORM, answer=FORBIDDEN),
    "a form with a file": Row(
        headers={**CROSS, "Content-Type": "multipart/form-data; boundary=x"},
        body=b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + GOOD + b"\r\n--x--\r\n",
        answer=FORBIDDEN,
    ),
    "a form of a browser that does not say where from": Row(
        headers={"Content-Type": "text/plain"}, body=FORM, answer=NO_TOKEN
    ),
    "fetch": Row(headers={**CROSS, "Content-Type": "text/plain;charset=UTF-8"}, answer=FORBIDDEN),
    "fetch of a type that needs leave": Row(
        headers={**CROSS, "Sec-Fetch-Mode": "cors", "Content-Type": "application/json"}, answer=FORBIDDEN
    ),
    "fetch of a file, or of a frame that is shut in": Row(
        headers={"Origin": "null", "Content-Type": "text/plain"}, answer=FORBIDDEN
    ),
    "fetch of a page that another program here serves": Row(
        headers={"Origin": "http://127.0.0.1:3000", "Sec-Fetch-Site": "same-site", "Content-Type": "text/plain"},
        answer=FORBIDDEN,
    ),
    "a preflight": Row(method="OPTIONS", headers={**PREFLIGHT, "Content-Type": None}, body=b"", answer=FORBIDDEN),
    "a picture": Row(method="GET", headers={**NO_CORS, "Content-Type": None}, body=b"", answer=FORBIDDEN),
    "a link": Row(method="GET", headers={"Sec-Fetch-Site": "none", "Content-Type": None}, body=b"", answer=FORBIDDEN),
    "a name that leads here": Row(
        headers={**REBOUND, "Origin": "http://evil.example:PORT", "Sec-Fetch-Site": "same-origin"},
        answer=MISDIRECTED,
    ),
    "a name that leads here, of a browser that does not say where from": Row(headers=REBOUND, answer=MISDIRECTED),
    "a name that leads here, looking around": Row(
        method="GET", path="/connections", headers={**REBOUND, "Content-Type": None}, body=b"", answer=MISDIRECTED
    ),
    "a stream of events": Row(
        method="GET",
        path="/metrics",
        headers={"Origin": "https://evil.example", "Accept": "text/event-stream", "Content-Type": None},
        body=b"",
        answer=FORBIDDEN,
    ),
    "a WebSocket": Row(
        method="GET",
        headers={"Origin": "https://evil.example", **HANDSHAKE, "Content-Type": None},
        body=b"",
        answer=FORBIDDEN,
    ),
}
