"""What may be done again, and what may be done at all. The rules stand here and nowhere else.

the call failed…                                                     once more?
───────────────────────────────────────────────────────────────────  ──────────────────────────────────
before a byte of it could have been written (`NotExecuted`)          yes, within `retries`
after a byte may have been written (`OutcomeUnknown`)                no: it may have run
… and the user's config marks the tool `retry: safe`                 yes, within `retries`, same deadline
with any answer of the server, an error included                     never: it has run
because of its caller (`Usage`, `Denied`)                            never: it would fail again
"""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from tasak.core.app import VOUCHED_FOR, App
from tasak.core.tool_diff import listing
from tasak.core.trust import what_to_trust
from tasak.errors import AmbiguousTool, Denied, NotExecuted, OutcomeUnknown, TasakError, Untrusted


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


# ── two tools of one name ────────────────────────────────────────────────────────────────────────────────────────
#
# Which of the two it runs, only their server knows: what the user reads, accepts or calls read-only may be the other.
# Said twice in the same words they are one tool. Otherwise neither is called or accepted, whatever `on_tool_change`
# says, and a list of the tools leaves both out and says so.


def ambiguous(app: App, tools: Sequence[str]) -> AmbiguousTool:
    what = "more than one tool of this name" if len(tools) == 1 else "more than one tool of each of these names"
    return AmbiguousTool(
        f"{app.name} {listing(tools)}: its server lists {what}, and they differ: none is called, since nobody can tell "
        "which one would run",
        fix=f"only who makes the server can mend it; `deny` of {app.name} keeps a name out of sight",
    )


# ── a caller who may only read ───────────────────────────────────────────────────────────────────────────────────
#
#   what the user's config says of the tool    the app is `trusted`        may it be called?
#   ─────────────────────────────────────────  ──────────────────────────  ──────────────────────────────────────
#   `read_only: true`                          whatever                    yes
#   `read_only: false`                         whatever                    no
#   nothing                                    no                          no, and the server is not asked
#   nothing                                    yes                         if its annotation says `readOnlyHint`
#
# The config is the user's own file, or one that they trust: any other could say anything. That goes for all that the
# app is made of, too; and each step of a curated tool is a call by a caller who may only read.


def require_vouched_for(app: App) -> None:
    """
    Raises:
        Untrusted: the app, or one that it is made of, stands in a file that does not have the user's word.
    """
    for each in app.whole():
        if each.standing not in VOUCHED_FOR:
            assert each.file is not None, "the built-in apps are ours"
            why = "has changed since you trusted it" if each.standing == "changed" else "is not trusted"
            raise Untrusted(
                f"{each.name}: it stands in {each.file}, which {why}, and `tasak read` uses no such app",
                fix=f"read that file, and if all that it says shall hold: tasak trust {what_to_trust(each.file)}",
            )


def require_readable(app: App, tool: str) -> None:
    """What can be known before the server is asked for its tools.

    Raises:
        Untrusted: as `require_vouched_for` says.
        Denied: the tool is not declared read-only, and no word of its server's would do.
    """
    require_vouched_for(app)
    said = declared(app, tool)
    if said is False or (said is None and not app.trusted):
        raise not_read_only(app, tool)


def needs_servers_word(app: App, tool: str) -> bool:
    """Whether it is for the server's annotation to say that the tool is read-only: then one of just now."""
    return app.trusted and declared(app, tool) is None


def is_read_only(app: App, tool: Mapping[str, Any]) -> bool:
    """Whether a caller who may only read may call the `tool`, which is as `tools/list` has it."""
    said = declared(app, tool["name"])
    if said is not None or not app.trusted:
        return said is True
    annotations = tool.get("annotations")
    return isinstance(annotations, Mapping) and annotations.get("readOnlyHint") is True


def declared(app: App, tool: str) -> bool | None:
    rule = app.tools.get(tool)
    return rule.read_only if rule else None


def not_read_only(app: App, tool: str) -> Denied:
    where = app.file or "a config of your own"
    if declared(app, tool) is False:
        fix = f"the config says so: see read_only of {tool} under {app.name} in {where}"
    else:
        fix = f"if it changes nothing: under {app.name} in {where}, write `tools: {{{tool}: {{read_only: true}}}}`"
        if not app.trusted:
            fix += ", or `trusted: true` to believe what the server says of its tools"
    return Denied(f"{app.name} {tool}: it is not declared read-only, and `tasak read` calls nothing else", fix=fix)
