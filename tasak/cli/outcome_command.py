"""`tasak outcome`: what came of a call that had an id, for whoever lost its answer."""

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import click

from tasak.cli import output
from tasak.cli.asked import Asked
from tasak.cli.daemon_road import DaemonRoad
from tasak.cli.options import with_json
from tasak.errors import DaemonAway, OutcomeUnknown, TasakError, from_json
from tasak.inert import inert
from tasak.paths import StateDir


@click.command()
@click.argument("call_id", metavar="ID")
@with_json
@click.pass_obj
def outcome(asked: Asked, call_id: str) -> int:
    """Print what an earlier call has answered, or say what else is known of it.

    Exits as the call did; with 6 if it may have run, or still runs.
    """
    found = known(asked, call_id)
    problem = problem_of(found)
    if asked.wants_json:
        output.print_json(found)
    elif problem:
        output.print_error(problem, wants_json=False)
    else:
        text = inert(found["result"]) if os.isatty(output.STDOUT) else found["result"]
        output.write_all(output.STDOUT, text.encode())
    return problem.exit_status if problem else int(found["exit"])


def known(asked: Asked, call_id: str) -> Mapping[str, Any]:
    """What the daemon says of it, if there is one, or else the journal."""
    # Lazy, here and below: a command that calls must not pay for it.
    from tasak.core.call_record import require_call_id

    require_call_id(call_id)
    state = StateDir.of_user()
    if not asked.no_daemon and not asked.debug:
        with suppress(DaemonAway):
            found: Mapping[str, Any] = DaemonRoad(asked, state, starts=False).ask(
                "GET", f"/outcomes/{quote(call_id, safe='')}"
            )
            return found
    from tasak.core.call_journal import Journal, known_from

    return known_from(Journal(state, owner=""), call_id)


def problem_of(found: Mapping[str, Any]) -> TasakError | None:
    """Why there is no answer to print."""
    from tasak.core.call_record import answer_gone

    if found["state"] == "running":
        what = f"{found['app']} {found['tool']}: call {found['call_id']}"
        return OutcomeUnknown(f"{what} is under way since {found['age']:.1f} s", fix="ask again")
    if found["error"]:
        return from_json({"error": found["error"]})
    if found["result"] is None:
        return answer_gone(found["app"], found["tool"], found["call_id"], found["exit"])
    return None
