"""An answer as bytes to print and an exit status: the same ones on every road."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tasak.core.app import App
from tasak.core.content import as_bytes, as_json, as_text
from tasak.core.tool_service import Answer
from tasak.errors import TOOL_ERROR_EXIT, ServerError
from tasak.inert import inert, inert_json
from tasak.request import Mark, Reply, Request


def as_reply(answer: Answer, request: Request, notices: Sequence[str]) -> Reply:
    if answer.result is None:
        text = as_json({"help": answer.help}) if request.wants_json else answer.help or ""
        return Reply(body=as_bytes(text), exit_status=0, mark=answer.mark, notices=notices)
    text = printed(answer.result, request)
    status = TOOL_ERROR_EXIT if answer.is_error else 0
    return Reply(body=as_bytes(text), exit_status=status, mark=answer.mark, notices=notices)


def made_inert(reply: Reply, request: Request) -> Reply:
    """The reply for a terminal."""
    make_inert = inert_json if request.wants_json else inert
    return replace(reply, body=as_bytes(make_inert(reply.body.decode())))


def printed(result: Mapping[str, Any], request: Request) -> str:
    try:
        text = as_json(result) if request.wants_json else as_text(result)
    except ValueError as problem:
        raise ServerError(f"{request.app} {request.tool}: its answer is not JSON: {problem}") from problem
    if not request.is_terminal:
        return text
    return inert_json(text) if request.wants_json else inert(text)


def state_lost(mark: Mark, app: App) -> Sequence[str]:
    if mark != "restarted":
        return ()
    return (f"{app.name}: this is a fresh session; the state of the earlier one is gone",)
