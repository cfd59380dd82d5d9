"""Turns what comes of a call into a response: whole, or as a stream of progress with the answer as its last line."""

import asyncio
import json
import logging
from typing import Any
from urllib.parse import quote

from aiohttp import web

from tasak.errors import InternalError, TasakError, with_call_id
from tasak.failure import kind
from tasak.plugin import Progress
from tasak.request import Reply, Request
from tasak.service import Service
from tasak.wire import EXIT_HEADER, JSON, NDJSON, NOTICE_HEADER, PLAIN, SESSION_HEADER

log = logging.getLogger(__name__)


def whole(reply: Reply, asked: Request) -> web.Response:
    kind_of_body = JSON if asked.wants_json else PLAIN
    headers = {
        "Content-Type": f"{kind_of_body}; charset=utf-8",
        EXIT_HEADER: str(reply.exit_status),
        SESSION_HEADER: reply.mark,
    }
    answer = web.Response(body=reply.body, headers=headers)
    for notice in reply.notices:
        answer.headers.add(NOTICE_HEADER, quote(notice, safe=" ,;:.()'`", errors="replace"))
    return answer


async def streamed(request: web.Request, asked: Request, service: Service, *, always: bool) -> web.StreamResponse:
    """Progress as it comes, a line each, then the answer, or what went wrong.

    Where there is no progress, a failure has its own status, and the answer is a stream only if it is `always` one.
    """
    heard: asyncio.Queue[Progress | None] = asyncio.Queue()
    work = asyncio.ensure_future(service.run(lambda: service.gateway.call(asked, heard.put_nowait)))
    work.add_done_callback(lambda _: heard.put_nowait(None))
    stream: web.StreamResponse | None = None
    try:
        while progress := await heard.get():
            stream = stream or await open_stream(request)
            await stream.write(progress_line(progress))
    finally:
        work.cancel()
    if stream is None:
        reply = work.result()
        if not always:
            return whole(reply, asked)
        stream = await open_stream(request)
    await stream.write(last_line(work, asked.call_id))
    await stream.write_eof()
    return stream


async def open_stream(request: web.Request) -> web.StreamResponse:
    stream = web.StreamResponse(headers={"Content-Type": NDJSON})
    await stream.prepare(request)
    return stream


def progress_line(progress: Progress) -> bytes:
    return as_line({"progress": {"progress": progress.progress, "total": progress.total, "message": progress.message}})


def last_line(work: "asyncio.Future[Reply]", call_id: str | None) -> bytes:
    try:
        reply = work.result()
    except TasakError as problem:
        return as_line(with_call_id(problem, call_id).as_json())
    except Exception as problem:  # the status is out: a bug of ours is told here or nowhere
        log.exception("call %s", call_id)
        return as_line(InternalError(f"a bug in tasak: {kind(problem)}", fix="see `tasak daemon logs`").as_json())
    return as_line(
        {
            "answer": {
                "exit": reply.exit_status,
                "session": reply.mark,
                "notices": list(reply.notices),
                "body": reply.body.decode(),
            }
        }
    )


def as_line(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode() + b"\n"
