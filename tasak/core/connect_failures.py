"""What the caller of an app is told where no session with it came about."""

from collections.abc import Sequence

from tasak.core.app import App
from tasak.errors import ConnectFailed, ConnectTimedOut, NotExecuted, SignInNeeded, TasakError
from tasak.failure import WHERE, kind
from tasak.last_words import with_last_words


def timed_out(app: App, last_words: Sequence[str]) -> ConnectTimedOut:
    message = f"{app.name}: {maker_of(app)} did not answer within {app.limits.init_timeout:g} s"
    return ConnectTimedOut(
        with_last_words(message, last_words), fix="raise init_timeout (TASAK_MCP_INIT_TIMEOUT) if it needs longer"
    )


def described(problem: NotExecuted, app: App, last_words: Sequence[str]) -> NotExecuted:
    """The same failure, naming the app, with what its program said last."""
    if isinstance(problem, ConnectTimedOut):
        return problem
    return type(problem)(with_last_words(f"{app.name}: {problem.message}", last_words), fix=problem.fix or by_hand(app))


def no_session(problem: TasakError, app: App) -> ConnectFailed:
    """What failed was no call, whatever it says of itself."""
    return ConnectFailed(f"{app.name}: {problem.message}", fix=problem.fix)


def misbehaved(problem: BaseException, app: App, transport: str) -> ConnectFailed:
    """The transport's code raised what it should not have."""
    return ConnectFailed(f"{app.name}: transport {transport}: {kind(problem)}", fix=WHERE)


def closed_meanwhile(app: App) -> ConnectFailed:
    return ConnectFailed(f"{app.name}: the connection was closed while it was opened")


def ended_early(app: App, last_words: Sequence[str]) -> ConnectFailed:
    return ConnectFailed(with_last_words(f"{app.name}: {maker_of(app)} ended before it had answered", last_words))


def sign_in_needed(problem: SignInNeeded, app: App) -> SignInNeeded:
    """The same failure, naming the app, with what its user can do."""
    return SignInNeeded(f"{app.name}: {problem.message}", fix=problem.fix or f"run `tasak auth login {app.name}`")


def again(problem: SignInNeeded) -> SignInNeeded:
    """The same, for one more caller."""
    return SignInNeeded(problem.message, fix=problem.fix)


def by_hand(app: App) -> str | None:
    """How to see it fail. The words behind the program may be secrets: they are where the config has them."""
    program = program_of(app)
    if program is None or not app.file or len(app.config.options["command"]) == 1:
        return program and f"try it by hand: {program}"
    return f"try it by hand: {program}, and the rest of its command as in {app.file}"


def maker_of(app: App) -> str:
    """What makes its sessions, in a message."""
    return program_of(app) or f"transport {app.transport}"


def program_of(app: App) -> str | None:
    """The program on this machine that they are made with, where there is one."""
    words = app.config.options.get("command")
    return str(words[0]) if isinstance(words, tuple) else None
