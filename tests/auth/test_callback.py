"""The page on this machine that the browser comes back to."""

import asyncio

import httpx2
import psutil
import pytest

from tasak.auth.callback import Callback, Declined, listening
from tests.http_client import http_client

STATE = "st4te"
AUTHORIZATION = f"https://login.example/authorize?client_id=x&state={STATE}"


async def get(callback: Callback, headers: dict[str, str] | None = None, **answer: str) -> httpx2.Response:
    async with http_client() as client:
        return await client.get(callback.uri, params=answer, headers=headers)


async def test_it_takes_the_answer_that_is_expected():
    async with listening(None) as callback:
        callback.expect(AUTHORIZATION)
        response = await get(callback, code="c0de", state=STATE, iss="https://login.example")
        answer = await callback.answer

    assert 200 == response.status_code
    assert ("c0de", STATE, "https://login.example") == (answer.code, answer.state, answer.iss)


async def test_it_listens_on_this_machine_alone():
    async with listening(None) as callback:
        found = [each.laddr for each in psutil.Process().net_connections("tcp") if each.status == psutil.CONN_LISTEN]

        assert ["127.0.0.1"] == [address.ip for address in found if address.port == callback.port]


async def test_it_can_have_the_port_of_before():
    async with listening(None) as callback:
        port = callback.port
        await get(callback)
    async with listening(port) as callback:
        assert f"http://127.0.0.1:{port}/callback" == callback.uri


async def test_a_port_that_is_taken_is_an_error():
    async with listening(None) as callback:
        with pytest.raises(OSError, match="in use"):
            async with listening(callback.port):
                pass


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "localhost:{port}", "127.0.0.1", ""])
async def test_it_answers_to_its_own_name_only(host):
    async with listening(None) as callback:
        callback.expect(AUTHORIZATION)
        response = await get(callback, {"Host": host.format(port=callback.port)}, code="c0de", state=STATE)

        assert not callback.answer.done()
    assert 421 == response.status_code


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"code": "c0de"},
        {"code": "c0de", "state": "other"},
        {"code": "c0de", "state": "stäte"},
        {"state": STATE},
        {"error": "access_denied"},
        {"error": "access_denied", "state": "other"},
    ],
)
async def test_another_answer_leaves_it_waiting(answer):
    async with listening(None) as callback:
        callback.expect(AUTHORIZATION)
        response = await get(callback, **answer)

        assert not callback.answer.done()
    assert 400 == response.status_code


async def test_nothing_is_expected_before_anyone_was_sent_away():
    async with listening(None) as callback:
        response = await get(callback, code="c0de", state="")

        assert not callback.answer.done()
    assert 400 == response.status_code


async def test_the_first_answer_is_the_one():
    async with listening(None) as callback:
        callback.expect(AUTHORIZATION)
        responses = [await get(callback, code=code, state=STATE) for code in ("first", "second")]
        answer = await callback.answer

    assert ([200, 400], "first") == ([response.status_code for response in responses], answer.code)


async def test_a_refusal_is_shown_as_text_and_told():
    async with listening(None) as callback:
        callback.expect(AUTHORIZATION)
        description = "<script>alert(1)</script>\x1b[2J"
        response = await get(callback, error="access_denied", error_description=description, state=STATE)
        with pytest.raises(Declined, match="access_denied: <script>"):
            await callback.answer

    assert "&lt;script&gt;alert(1)&lt;/script&gt;\\x1b[2J" in response.text
    assert "<script>" not in response.text
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    assert "no-store" == response.headers["Cache-Control"]


async def test_it_has_one_page_and_one_verb():
    async with listening(None) as callback, http_client() as client:
        elsewhere = await client.get(f"http://127.0.0.1:{callback.port}/")
        post = await client.post(callback.uri)

    assert (404, 405) == (elsewhere.status_code, post.status_code)


async def test_it_is_gone_at_once_however_many_connections_idle():
    async with listening(None) as callback:
        idle = [await asyncio.open_connection("127.0.0.1", callback.port) for _ in range(3)]
        leaving = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - leaving < 5
    with pytest.raises(OSError, match="Connect"):
        await asyncio.open_connection("127.0.0.1", callback.port)

    for _, writer in idle:
        writer.close()
        await writer.wait_closed()
