"""Talks to a running daemon for the full CLI: one request a connection, over the user's socket."""

import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from http.client import HTTPException, HTTPResponse, IncompleteRead
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote, unquote

from tasak import __version__
from tasak.client import fast
from tasak.client.patience import PatientSocket, Watch
from tasak.errors import DaemonAway, DaemonLost, InternalError, TasakError, from_json
from tasak.request import Mark, Reply, Request
from tasak.wire import (
    APP_HEADER,
    CONTINUE_TIMEOUT,
    EXIT_HEADER,
    JSON,
    NDJSON,
    NOTICE_HEADER,
    SESSION_HEADER,
    VERSION_HEADER,
)

if TYPE_CHECKING:
    import _socket

# What the daemon answers without asking an app; a hung one is given up after this.
ANSWER_TIMEOUT = 5.0

OnProgress = Callable[[Mapping[str, Any]], None]
UNWATCHED = Watch()


def call(
    connection: socket.socket, request: Request, on_progress: OnProgress, *, is_exact: bool, watch: Watch = UNWATCHED
) -> Reply:
    """Make one call over `connection`, and close that.

    `is_exact` says that the app's name is one even if it is a word of ours; `watch`, how the daemon is looked after;
    the connection's timeout, how many seconds the go-ahead may take.

    Raises:
        DaemonAway: no go-ahead came; nothing was sent.
        DaemonLost: it broke off.
        TasakError: what the daemon reports.
    """
    content = json.dumps(body_of(request)).encode("ascii")
    head = fast.request_head(as_segment(request.app), request.wants_json, len(content), is_exact=is_exact)
    if not is_let_go_on(connection, head):
        return read_refusal(connection)
    fast.push(connection, content)
    return read_reply(connection, on_progress, watch=watch)


def is_let_go_on(connection: socket.socket, head: bytes) -> bool:
    """Send the head of a request that expects a go-ahead: whether its body is to follow. Else the answer came already.

    Raises:
        DaemonAway: neither came; the connection is closed.
    """
    patience = connection.gettimeout() or CONTINUE_TIMEOUT
    deadline = time.monotonic() + patience
    fast.push(connection, head)
    state = fast.await_go_ahead(connection, deadline)
    if state not in ("sent", "unsent"):
        connection.close()
        raise hung(patience) if state == "hung" else DaemonAway("the daemon hung up before the call was sent")
    connection.settimeout(fast.STALLED)
    return state == "sent"


def read_refusal(connection: "_socket.socket | socket.socket", *, watch: Watch = UNWATCHED) -> NoReturn:
    """Read what came instead of a go-ahead, and close the connection. Nothing of the call was sent.

    Raises:
        TasakError: what the daemon reports; `DaemonAway` where that is not to be understood.
    """
    try:
        read_reply(connection, lambda progress: None, watch=watch)
    except (DaemonLost, InternalError) as problem:
        raise DaemonAway(f"the daemon refused the call, and not in words that we know: {problem.message}") from problem
    raise DaemonAway("the daemon answered a call that was not sent")


def read_reply(
    connection: "_socket.socket | socket.socket", on_progress: OnProgress, *, watch: Watch = UNWATCHED
) -> Reply:
    """Read the answer to a call, also to one that the hot path sent, and close the connection.

    Raises:
        DaemonLost: the daemon broke off.
        TasakError: what it reports.
    """
    owned = connection if isinstance(connection, socket.socket) else socket.socket(fileno=connection.detach())
    owned.set_inheritable(False)
    try:
        owned.settimeout(None)
        with owned, HTTPResponse(PatientSocket(owned, watch), method="POST") as response:  # type: ignore[arg-type]  # it only calls makefile
            begin(response)
            if response.headers.get_content_type() == NDJSON:
                return read_stream(response, on_progress)
            content = response.read()
    except (HTTPException, OSError, EOFError, ValueError) as problem:
        raise lost(problem) from problem
    status = response.headers.get(EXIT_HEADER, "")
    if response.status != 200 or not status.isdigit():
        raise understood(content) or lost(ValueError(f"HTTP {response.status}, which is no answer of ours"))
    return Reply(
        body=content,
        exit_status=int(status),
        mark=mark_of(response.headers.get(SESSION_HEADER)),
        notices=[unquote(line) for line in response.headers.get_all(NOTICE_HEADER, [])],
    )


def begin(response: HTTPResponse) -> None:
    """Read the head. `http.client` takes an end in the middle of it for its end: then no length is known."""
    response.begin()
    if response.length is None and not response.chunked:
        raise EOFError


def read_stream(response: HTTPResponse, on_progress: OnProgress) -> Reply:
    for line in lines(response):
        match line:
            case {"progress": dict(progress)}:
                on_progress(progress)
            case {"answer": {"exit": int(status), "session": mark, "body": str(body), "notices": list(notices)}}:
                return Reply(body=body.encode(), exit_status=status, mark=mark_of(mark), notices=notices)
            case _:
                raise from_json(line)
    raise lost(EOFError())


def lines(response: HTTPResponse) -> Iterator[Any]:
    while line := response.readline():
        yield json.loads(line)


def ask(
    connection: socket.socket,
    method: str,
    path: str,
    *,
    accept: str = JSON,
    is_exact: bool = False,
    timeout: float = ANSWER_TIMEOUT,
) -> tuple[int, bytes]:
    """Any other request, one without a body that may be made again: its status, and what it answered.

    `is_exact` is as for `call`; `timeout` is in seconds, for each wait.

    Raises:
        DaemonAway: no answer came in time, or it broke off.
    """
    head = head_of(method, path, 0, accept=accept, is_exact=is_exact)
    with connection:
        connection.settimeout(timeout)
        try:
            connection.sendall(head)
            return answered(HTTPResponse(connection, method=method))
        except TimeoutError as problem:
            raise hung(timeout) from problem
        except (HTTPException, OSError, EOFError) as problem:
            raise DaemonAway(broken_off(problem)) from problem


def ask_at_length(
    connection: socket.socket, path: str, body: Mapping[str, Any], *, is_exact: bool, watch: Watch
) -> tuple[int, bytes]:
    """The same with a body, for what takes the daemon as long as it takes; it has to say first that it is there.

    `is_exact`, `watch` and the connection's timeout are as for `call`.

    Raises:
        DaemonAway: it did not say so, or it broke off.
    """
    content = json.dumps(body).encode("ascii")
    head = head_of("POST", path, len(content), is_exact=is_exact, more="Expect: 100-continue\r\n")
    with connection:
        if is_let_go_on(connection, head):
            fast.push(connection, content)
        connection.settimeout(None)
        try:
            return answered(HTTPResponse(PatientSocket(connection, watch), method="POST"))  # type: ignore[arg-type]  # as above
        except (HTTPException, OSError, EOFError) as problem:
            raise DaemonAway(broken_off(problem)) from problem


def head_of(method: str, path: str, length: int, *, accept: str = JSON, is_exact: bool, more: str = "") -> bytes:
    exact = f"{APP_HEADER}: exact\r\n" if is_exact else ""
    return (
        f"{method} {path} HTTP/1.1\r\nHost: tasak\r\nAccept: {accept}\r\nConnection: close\r\n{exact}{more}"
        f"{VERSION_HEADER}: {__version__}\r\n"
        f"Content-Type: {JSON}\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


def answered(response: HTTPResponse) -> tuple[int, bytes]:
    with response:
        begin(response)
        return response.status, response.read()


def as_segment(app: str) -> str:
    """The name as a part of a path. The user may have typed anything, a line that looks like a header among it."""
    return quote(app, safe="", errors="surrogateescape")


def body_of(request: Request) -> dict[str, Any]:
    """What `POST /tools/call/{app}` takes."""
    members = {
        **caller_of(request),
        "tool": request.tool,
        "argv": list(request.argv),
        "timeout": request.timeout,
        "call_id": request.call_id,
        "tty": request.is_terminal,
    }
    return {name: value for name, value in members.items() if value is not None}


def caller_of(request: Request) -> dict[str, Any]:
    """What `POST /tools/list/{app}` takes."""
    cwd = os.fspath(request.cwd) if request.cwd else None
    members = {
        "cwd": cwd,
        "env": dict(request.env),
        "session": request.session,
        "read_only": request.read_only or None,
    }
    return {name: value for name, value in members.items() if value is not None}


def object_in(content: bytes) -> dict[str, Any]:
    """The JSON object that an answer is.

    Raises:
        DaemonAway: it is none.
    """
    try:
        found = json.loads(content)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise DaemonAway("the daemon's answer is no JSON object", fix="tasak daemon restart")
    return found


def reported(content: bytes) -> TasakError:
    """The failure that an error's body tells."""
    return understood(content) or InternalError("the daemon's answer is no JSON")


def understood(content: bytes) -> TasakError | None:
    try:
        return from_json(json.loads(content))
    except ValueError:
        return None


def mark_of(text: Any) -> Mark:
    return text if text in ("warm", "new", "restarted") else "new"


def hung(seconds: float) -> DaemonAway:
    return DaemonAway(f"the daemon did not answer within {seconds:g} s", fix="tasak daemon restart")


def lost(problem: BaseException) -> DaemonLost:
    return DaemonLost(broken_off(problem), fix="the call may have run: look before you repeat it")


def broken_off(problem: BaseException) -> str:
    """What happened; its reason too, unless that is no more than the end of the connection."""
    is_end = isinstance(problem, (ConnectionError, EOFError, IncompleteRead))
    return "the daemon broke off its answer" + ("" if is_end else f" ({problem!r})")
