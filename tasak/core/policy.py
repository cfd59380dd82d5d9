"""What may be done again, and what may be done at all. The rules stand here and nowhere else.

the call failed…                                                     once more?
───────────────────────────────────────────────────────────────────  ──────────────────────────────────
before a byte of it could have been written (`NotExecuted`)          yes, within `retries`
after a byte may have been written (`OutcomeUnknown`)                no: it may have run
… and the user's config marks the tool `retry: safe`                 yes, within `retries`, same deadline
with any answer of the server, an error included                     never: it has run
because of its caller (`Usage`, `Denied`)                            never: it would fail again
"""

from fnmatch import fnmatchcase

from tasak.core.app import App
from tasak.errors import Denied, NotExecuted, OutcomeUnknown, TasakError


def may_run_again(problem: TasakError, app: App, tool: str) -> bool:
    """Whether the call that failed so may be sent once more."""
    match problem:
        case NotExecuted():
            # The server was just found broken, or is known to be: another attempt would tell the same.
            return problem.retry == "now"
        case OutcomeUnknown():
            rule = app.tools.get(tool)
            return rule is not None and rule.retry == "safe"
        case _:
            return False


def is_allowed(app: App, tool: str) -> bool:
    """Whether the user's `allow` and `deny` let the tool be seen and called. `deny` wins."""
    if any(fnmatchcase(tool, pattern) for pattern in app.deny):
        return False
    return app.allow is None or any(fnmatchcase(tool, pattern) for pattern in app.allow)


def require_allowed(app: App, tool: str) -> None:
    """
    Raises:
        Denied: the user's config does not let the tool be called.
    """
    if not is_allowed(app, tool):
        raise Denied(
            f"{app.name}: the config does not allow {tool}", fix=f"see allow and deny of {app.name} in {app.file}"
        )
