"""Every failure that TASAK reports: its code, exit status, HTTP status, outcome and what to do next.

TasakError
├── Usage                   the caller's mistake; nothing was sent                      exit 2
│   ├── BadRequest          a request that the HTTP API does not take
│   │   ├── TooLarge
│   │   ├── TooSlow          its body does not come
│   │   └── UnsupportedMediaType
│   ├── BadArguments        a flag, a type, a missing argument
│   ├── NeedsInput          `--args @file` or `--args -`: only the caller can read it
│   ├── BadConfig           a config file, or an app in it
│   ├── UnknownApp
│   ├── UnknownTool
│   ├── UnknownConnection
│   ├── UnknownOutcome      no call of this id is known
│   ├── UnknownRoute
│   └── MethodNotAllowed
├── SignInNeeded            the app wants the user to sign in; nothing was sent         exit 3
├── InputNeeded             the server asks a question before it goes on                exit 7
├── Denied                  the user's policy says no                                   exit 8
│   ├── Untrusted           it stands in a config file that the user does not trust
│   ├── ToolChanged         the tool is not the one that the user accepted
│   └── AmbiguousTool       the server lists two tools of its name
├── Forbidden               the caller is not the daemon's owner                        exit 8
│   ├── Misdirected         it asks for another host
│   └── NoToken             over TCP, without the token
├── NotExecuted             nothing of the call was sent: safe to try again             exit 4
│   ├── BrokenTransport     the plugin that reaches the app does not load
│   ├── ConnectFailed       no session: it did not start, or did not shake hands
│   ├── ConnectTimedOut
│   ├── Busy                other calls had all the places that the app has
│   ├── BackingOff          it failed just now, and again before that
│   ├── NotRecorded         its call id cannot be written down
│   ├── Draining            the daemon is stopping
│   ├── VersionSkew         the daemon is of another version than the caller
│   └── DaemonAway          there is no daemon to be had
├── ServerError             the server answered with a JSON-RPC error: it is done       exit 5
├── AnswerGone              the call of this id has run; its answer is not kept         exit 5
├── OutcomeUnknown          it may have run; look before you repeat it                  exit 6
│   ├── CallTimedOut
│   ├── SessionLost         the server died or broke off
│   └── DaemonLost          the daemon did
├── Cancelled                                                                           exit 130
└── InternalError           a bug of ours                                               exit 1
"""

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

Outcome = Literal["executed", "not_executed", "unknown"]
Retry = Literal["now", "after_fix", "never", "verify_first"]

# A tool's own `isError: true` is an answer, not a failure of ours; its exit status stands here with the rest.
TOOL_ERROR_EXIT = 5


class TasakError(Exception):
    """A failure that its reader can act on: `message` says what happened to what, `fix` what to do next."""

    code: ClassVar[str]
    exit_status: ClassVar[int]
    http_status: ClassVar[int]
    outcome: ClassVar[Outcome]
    retry: ClassVar[Retry]

    def __init__(self, message: str, *, fix: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix

    def as_json(self) -> dict[str, Any]:
        """The one shape of an error, in HTTP bodies and on the stdout of `--json`."""
        return {
            "error": {
                "code": self.code,
                "message": self.message,
                "fix": self.fix,
                "outcome": self.outcome,
                "retry": self.retry,
            }
        }


class Usage(TasakError):
    code = "usage"
    exit_status = 2
    http_status = 400
    outcome: ClassVar[Outcome] = "not_executed"
    retry: ClassVar[Retry] = "after_fix"


class BadRequest(Usage):
    code = "bad_request"


class TooLarge(BadRequest):
    code = "too_large"
    http_status = 413


class TooSlow(BadRequest):
    code = "too_slow"
    http_status = 408


class UnsupportedMediaType(BadRequest):
    code = "unsupported_media_type"
    http_status = 415


class BadArguments(Usage):
    code = "bad_arguments"


class NeedsInput(Usage):
    code = "needs_input"


class BadConfig(Usage):
    code = "bad_config"


class UnknownApp(Usage):
    code = "unknown_app"
    http_status = 404


class UnknownTool(Usage):
    code = "unknown_tool"
    http_status = 404


class UnknownConnection(Usage):
    code = "unknown_connection"
    http_status = 404


class UnknownOutcome(Usage):
    """Not known to have been made, which is less than known not to have been."""

    code = "unknown_outcome"
    http_status = 404
    outcome = "unknown"
    retry = "verify_first"


class UnknownRoute(Usage):
    code = "unknown_route"
    http_status = 404


class MethodNotAllowed(Usage):
    code = "method_not_allowed"
    http_status = 405


class SignInNeeded(TasakError):
    """Nobody is signed in, or not for this: only a person can mend it."""

    code = "sign_in_needed"
    exit_status = 3
    http_status = 409
    outcome = "not_executed"
    retry = "after_fix"


class InputNeeded(TasakError):
    code = "input_needed"
    exit_status = 7
    http_status = 409
    outcome = "executed"
    retry = "never"


class Denied(TasakError):
    code = "denied"
    exit_status = 8
    http_status = 403
    outcome: ClassVar[Outcome] = "not_executed"
    retry: ClassVar[Retry] = "after_fix"


class Untrusted(Denied):
    code = "untrusted"


class ToolChanged(Denied):
    code = "tool_changed"


class AmbiguousTool(Denied):
    code = "ambiguous_tool"


class Forbidden(TasakError):
    code = "forbidden"
    exit_status = 8
    http_status = 403
    outcome = "not_executed"
    retry = "never"


class Misdirected(Forbidden):
    code = "misdirected"
    http_status = 421


class NoToken(Forbidden):
    code = "no_token"
    http_status = 401


class NotExecuted(TasakError):
    """No byte of the call was written: whoever sees this may try again."""

    code = "not_executed"
    exit_status = 4
    http_status = 503
    outcome = "not_executed"
    retry: ClassVar[Retry] = "now"


class BrokenTransport(NotExecuted):
    code = "broken_transport"
    retry = "after_fix"


class ConnectFailed(NotExecuted):
    code = "connect_failed"
    retry = "after_fix"


class ConnectTimedOut(NotExecuted):
    """It took all the time that it was given, and would take it again."""

    code = "connect_timed_out"
    retry = "after_fix"


class Busy(NotExecuted):
    """The caller has waited for its time already."""

    code = "busy"
    retry = "after_fix"


class BackingOff(NotExecuted):
    code = "backing_off"
    retry = "after_fix"


class NotRecorded(NotExecuted):
    """A call that has an id is made only if that it was made can be kept."""

    code = "not_recorded"
    retry = "after_fix"


class Draining(NotExecuted):
    code = "draining"


class VersionSkew(NotExecuted):
    code = "version_skew"


class DaemonAway(NotExecuted):
    code = "daemon_away"


class ServerError(TasakError):
    """The server answered, with a JSON-RPC error instead of a result."""

    code = "server_error"
    exit_status = 5
    http_status = 502
    outcome = "executed"
    retry = "never"


class AnswerGone(TasakError):
    """The call of this id ran before, and does not run again; what it answered is not kept."""

    code = "answer_gone"
    exit_status = 5
    http_status = 410
    outcome = "executed"
    retry = "never"


class OutcomeUnknown(TasakError):
    """A byte of the call may have been written, and no answer came: it may have run."""

    code = "outcome_unknown"
    exit_status = 6
    http_status = 504
    outcome = "unknown"
    retry = "verify_first"


class CallTimedOut(OutcomeUnknown):
    code = "call_timed_out"


class SessionLost(OutcomeUnknown):
    code = "session_lost"


class DaemonLost(OutcomeUnknown):
    code = "daemon_lost"


class Cancelled(TasakError):
    code = "cancelled"
    exit_status = 130
    http_status = 499
    outcome = "unknown"
    retry = "verify_first"


class InternalError(TasakError):
    code = "internal"
    exit_status = 1
    http_status = 500
    outcome = "unknown"
    retry = "verify_first"


def with_call_id(problem: TasakError, call_id: str | None) -> TasakError:
    """The same failure, anew; if its call has an id and may have run, the fix says how to ask for its outcome."""
    fix = problem.fix or ""
    how = f"`tasak outcome {call_id}` tells what is known of it"
    if call_id is not None and problem.outcome == "unknown" and how not in fix:
        fix = f"{fix}\n{how}".lstrip()
    return type(problem)(problem.message, fix=fix or None)


def error_types() -> Iterator[type[TasakError]]:
    """Every kind of failure, from the branches to the leaves."""
    pending = TasakError.__subclasses__()
    while pending:
        kind = pending.pop(0)
        yield kind
        pending.extend(kind.__subclasses__())


def from_json(body: object) -> TasakError:
    """The failure that `body` reports, as another process wrote it with `as_json`."""
    match body:
        case {"error": {"code": str(code), "message": str(message), **rest}}:
            fix = rest.get("fix")
            for kind in error_types():
                if kind.code == code:
                    return kind(message, fix=fix if isinstance(fix, str) else None)
            return InternalError(f"{message} ({code})")
    return InternalError("the answer is not an error that this version knows")
