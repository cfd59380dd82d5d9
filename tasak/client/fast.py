"""The hot path: a tool call on a warm daemon for little more than the start of an interpreter.

A dumb pipe, which knows no schema, no config and no list of our commands. It sends one request and copies a plain
answer out; whatever is not plain is handed over with the reply unread, so that no call is ever sent twice. Imports are
most of what it costs: hence `_socket` for `socket`, and string methods for `json` and `re`.
"""

import _signal  # type: ignore[import-not-found]  # typeshed has none; it is loaded already, as `time` is
import sys
from os import _exit, environb, fsencode, getcwdb, geteuid, getuid, isatty, lstat, stat, write
from time import monotonic

from tasak import __version__
from tasak.wire import (
    APP_HEADER,
    CALL_PATH,
    CONTINUE_TIMEOUT,
    EXIT_HEADER,
    JSON,
    NOTICE_HEADER,
    PLAIN,
    SOCKET_NAME,
    VERSION_HEADER,
)

TYPE_CHECKING = False  # importing `typing` costs about as much as the whole start
if TYPE_CHECKING:
    from _socket import socket
    from typing import Literal

    State = Literal["idle", "away", "blocked", "stranger", "hung", "gone", "unsent", "sent"]

# The shortest sun_path there is (macOS), less its NUL.
LONGEST_PATH = 103

# A longer head is for the full CLI to read.
LONGEST_HEAD = 64 << 10

# A little more than what a Unix socket holds at once.
PIECE = 256 << 10

# Milliseconds, for a `100` that comes in crumbs, which no daemon of ours does: the kernel wakes nobody for "more than
# these".
LOOK_AGAIN = 5

# Seconds of silence. What takes longer is the full CLI's to wait for, which looks whether the daemon is still there; in
# the middle of an answer, it is not.
STALLED = 10.0

# Exit statuses, as in `tasak.errors`, which would cost too much.
TOOL_ERROR = 5
INTERNAL_ERROR = 1
OUTCOME_UNKNOWN = 6

GO_AHEAD = b"HTTP/1.1 100 "
BLANK_LINE = b"\r\n\r\n"
VALUED_OPTIONS = {"--timeout": "timeout", "--session": "session", "--call-id": "call_id"}
ESCAPES = {code: f"\\u{code:04x}" for code in range(32)} | {ord('"'): '\\"', ord("\\"): "\\\\"}
PUNCTUATION = {ord(mark): "0" for mark in "._-"}


class Handover:
    """What is left to the full CLI: how far the call came, and the connection if there is something to read on it.

    idle      nothing was tried: not a plain call, or one that needs the full CLI; or others can change the folder
    away      nobody listens there, or not at a path that we can take
    blocked   connecting is forbidden: a sandbox
    stranger  another user listens there
    hung      no `100 Continue` in time: nothing ran
    gone      the daemon closed instead: nothing ran
    unsent    a final answer came instead: nothing ran, and `reply` has it unread
    sent      the body went, or some of it: `reply` has the answer unread, or is at its end
    """

    __slots__ = ("reply", "state")

    def __init__(self, state: "State", reply: "socket | None" = None) -> None:
        self.state = state
        self.reply = reply


def run(words: list[str]) -> Handover:
    """Make the call that `words` (argv without the program) are and end the process, or say what is left to do."""
    call = plain_call(words)
    if call is None or environb.get(b"TASAK_DEBUG", b"") not in (b"", b"0"):
        return Handover("idle")
    app, wants_json, members = call
    try:
        members["cwd"] = quote(getcwdb())
    except OSError:  # it was removed under us
        return Handover("idle")

    # Dying of Ctrl-C closes the socket, and that cancels the call. An inherited SIG_IGN stays.
    dies_of_sigint = _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler
    if dies_of_sigint:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    try:
        return attempt(app, wants_json, members)
    finally:
        if dies_of_sigint:
            _signal.signal(_signal.SIGINT, _signal.default_int_handler)


def plain_call(words: list[str]) -> tuple[str, bool, dict[str, str]] | None:
    """`[--json] [--timeout S] [--session N] [--call-id ID] APP TOOL …`: the app, whether JSON is wanted, and members of
    the request's body as JSON, empty ones for options that are not there. None for anything else.
    """
    wants_json = False
    app = ""
    members = dict.fromkeys(("tool", *VALUED_OPTIONS.values()), "")
    rest = iter(words)
    for word in rest:
        if not word.startswith("-"):
            app = word
            break
        if word == "--json":
            wants_json = True
            continue
        name, has_value, value = word.partition("=")
        value = value if has_value else next(rest, "")
        member = VALUED_OPTIONS.get(name)
        if not member or not value or value.startswith("-"):
            return None
        members[member] = seconds(value) if member == "timeout" else quote(fsencode(value))
        if not members[member]:
            return None
    tool = next(rest, "")
    if not is_name(app) or not tool or tool.startswith("-"):
        return None
    members["tool"] = quote(fsencode(tool))
    members["argv"] = f"[{','.join([quote(fsencode(word)) for word in rest])}]"
    return app, wants_json, members


def is_name(app: str) -> bool:
    return app.isascii() and app[:1].isalnum() and len(app) <= 64 and app.translate(PUNCTUATION).isalnum()


def seconds(text: str) -> str:
    """A JSON number, which has no zeros before it. Empty if `text` is neither `30` nor `0.5` nor the like."""
    whole, point, part = text.partition(".")
    is_number = text.isascii() and whole.isdigit() and (part.isdigit() or not point)
    return f"{whole.lstrip('0') or '0'}{point}{part}" if is_number else ""


def quote(text: bytes) -> str:
    return f'"{text.decode("utf-8", "surrogateescape").translate(ESCAPES)}"'


def as_object(members: dict[str, str]) -> str:
    return f"{{{','.join([f'{name}:{value}' for name, value in members.items()])}}}"


def as_body(members: dict[str, str]) -> bytes:
    """Bytes that are not UTF-8 travel as escaped lone surrogates: `os.fsencode` gives them back."""
    given = {f'"{name}"': value for name, value in members.items() if value}
    return as_object(given).encode("utf-8", "backslashreplace")


def request_head(app: str, wants_json: bool, length: int, *, is_exact: bool = False) -> bytes:
    """`is_exact` says that the word is an app's name even if it is one of ours."""
    more = f"{APP_HEADER}: exact\r\n" if is_exact else ""
    return (
        f"POST {CALL_PATH}{app} HTTP/1.1\r\nHost: tasak\r\nContent-Type: {JSON}\r\n"
        f"Accept: {JSON if wants_json else PLAIN}\r\n{VERSION_HEADER}: {__version__}\r\n"
        f"{more}Connection: close\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


def attempt(app: str, wants_json: bool, members: dict[str, str]) -> Handover:
    from _socket import AF_UNIX, SOCK_STREAM, socket  # Lazy here and below: not before there is a call to make.

    home = environb.get(b"HOME", b"")
    folder = home + b"/.tasak"
    path = folder + b"/" + SOCKET_NAME.encode()
    if not home.startswith(b"/") or len(path) > LONGEST_PATH:
        return Handover("away")
    if not is_private(folder, home):
        return Handover("idle")
    try:
        connection = socket(AF_UNIX, SOCK_STREAM)
    except OSError as refusal:
        return Handover("blocked" if isinstance(refusal, PermissionError) else "away")
    deadline = monotonic() + CONTINUE_TIMEOUT
    connection.settimeout(CONTINUE_TIMEOUT)
    state = dial(connection, path)
    if not state:
        body = whole_body(members)  # while the daemon accepts the connection
        state = converse(connection, deadline, request_head(app, wants_json, len(body)), body, wants_json)
    if state in ("unsent", "sent"):
        connection.settimeout(None)
        return Handover(state, connection)
    connection.close()
    return Handover(state)


def is_private(folder: bytes, home: bytes) -> bool:
    """Whether it is a folder of ours to which nobody else can write: what listens in another may be anybody's.

    In a home that is everybody's, too. Of a group's the full CLI can tell more.
    """
    try:
        found, above = lstat(folder), stat(home)
    except OSError:
        return True  # connecting says it better
    is_ours = found.st_mode & 0o170022 == 0o040000 and found.st_uid == getuid()
    return is_ours and above.st_mode & 0o1002 != 0o0002


def dial(connection: "socket", path: bytes) -> "State | None":
    """Connect, and see who is there. None: it is our daemon."""
    if connection.fileno() < 3:  # a standard stream is closed, and this would be taken for it
        return "idle"
    try:
        connection.connect(path)
        return None if peer_uid(connection) == geteuid() else "stranger"
    except PermissionError:
        return "blocked"
    except BlockingIOError:  # the queue is full: nobody has accepted for long
        return "hung"
    except OSError:
        return "away"


def whole_body(members: dict[str, str]) -> bytes:
    members["env"] = as_object({quote(name): quote(value) for name, value in environb.items()})
    if isatty(1):
        members["tty"] = "true"
    return as_body(members)


def converse(connection: "socket", deadline: float, head: bytes, body: bytes, wants_json: bool) -> "State":
    push(connection, head)
    state = await_go_ahead(connection, deadline)
    if state == "sent":
        connection.settimeout(STALLED)
        push(connection, body)
        relay(connection, wants_json)
    return state


def peer_uid(connection: "socket") -> int:
    """Linux's `struct ucred` and macOS's `struct xucred` have it in the same place."""
    import _socket

    if sys.platform == "darwin":
        credentials = connection.getsockopt(0, 1, 76)  # SOL_LOCAL, LOCAL_PEERCRED
    else:
        credentials = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
    return int.from_bytes(credentials[4:8], sys.byteorder)


def push(connection: "socket", message: bytes) -> None:
    try:
        connection.sendall(message)
    except OSError:
        return  # a refusal may still be there to be read


def await_go_ahead(connection: "socket", deadline: float) -> "State":
    """Take `100 Continue` off the connection, and not a byte of what follows it. `sent`: now the body may go."""
    from _socket import MSG_PEEK

    while (left := deadline - monotonic()) > 0:
        connection.settimeout(left)
        try:
            piece = connection.recv(LONGEST_HEAD, MSG_PEEK)
        except TimeoutError:
            return "hung"
        except OSError:
            return "gone"
        if not piece:
            return "gone"
        if not GO_AHEAD.startswith(piece[: len(GO_AHEAD)]):
            return "unsent"
        text, end, _ = piece.partition(BLANK_LINE)
        if end:
            connection.recv(len(text) + len(end))
            return "sent"
        if has_hung_up_within(connection, LOOK_AGAIN):
            return "gone"
    return "hung"


def has_hung_up_within(connection: "socket", milliseconds: int) -> bool:
    """Whether nothing more will come."""
    from select import poll  # Lazy: a `100` comes whole.

    watch = poll()
    watch.register(connection, 0)
    return bool(watch.poll(milliseconds))


def relay(connection: "socket", wants_json: bool) -> None:
    """Copy a plain answer out and end the process. Return, with the answer unread, where it is not plain."""
    from _socket import MSG_PEEK, MSG_WAITALL

    try:
        answer = plain_answer(connection.recv(LONGEST_HEAD, MSG_PEEK))
    except OSError:
        return
    if answer:
        skip, length, status = answer
        connection.recv(skip, MSG_WAITALL)
        _signal.signal(_signal.SIGPIPE, _signal.SIG_DFL)
        output = 1 if wants_json or status in (0, TOOL_ERROR) else 2
        _exit(copy(connection, length, output) or status)


def plain_answer(seen: bytes) -> tuple[int, int, int] | None:
    """The length of the head, that of the body, and the exit status, if the answer is to be copied as it is."""
    head, end, _ = seen.partition(BLANK_LINE)
    status_line, *lines = head.split(b"\r\n")
    parts = [line.partition(b":") for line in lines]
    fields = {name.lower(): value.strip(b" \t") for name, colon, value in parts if colon}
    length = fields.get(b"content-length", b"")
    status = fields.get(EXIT_HEADER.lower().encode(), b"")
    is_plain = (
        end
        and status_line.startswith(b"HTTP/1.1 200 ")
        and len(fields) == len(lines)  # none twice, none without a colon
        and b"\0" not in head  # where the launcher in C would take it for the end
        and all(name.replace(b"-", b"").isalnum() for name in fields)  # none folded, none without a name
        and b"transfer-encoding" not in fields
        and NOTICE_HEADER.lower().encode() not in fields
        and (length.isdigit() and len(length) < 16)
        and (status.isdigit() and len(status) < 4 and int(status) < 256)
    )
    return (len(head) + len(end), int(length), int(status)) if is_plain else None


def copy(connection: "socket", left: int, output: int) -> int:
    """Copy `left` bytes to the descriptor `output`. Returns the exit status of a failure, 0 for none."""
    while left:
        try:
            piece = connection.recv(min(left, PIECE))
        except OSError:
            piece = b""
        if not piece:
            return complain("the daemon broke off its answer; the call may have run", OUTCOME_UNKNOWN)
        left -= len(piece)
        try:
            write_all(output, piece)
        except OSError as failure:
            return complain(f"cannot write the result: {failure.strerror}", INTERNAL_ERROR)
    return 0


def write_all(output: int, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        try:
            view = view[write(output, view) :]
        except BlockingIOError:
            import select  # Lazy: few outputs are non-blocking.

            select.select([], [output], [])


def complain(message: str, status: int) -> int:
    try:
        write(2, f"tasak: {message}\n".encode())
    except OSError:
        return status  # there is nobody to tell
    return status
