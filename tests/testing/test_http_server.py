"""The server over HTTP is a correct one, as the MCP SDK's clients see it, and goes wrong only when it is told to."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import MCPError
from mcp.client.client import Client
from mcp.client.sse import sse_client
from mcp_types import ToolListChangedNotification

from tasak.testing import Answers, CutOff, EndsEarly, Hangs, HttpServer, StdioServer, no_leaks, redirect
from tasak.testing.faults import HTML
from tests.core.pool import until
from tests.http_client import http_client

PATIENCE = 20.0
# Long enough to be sure that nothing comes.
SILENCE = 0.1
LONG = 1000.0

HANDSHAKE = "2025-11-25"
STATELESS = "2026-07-28"

ACCEPT = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
HELLO = {"protocolVersion": HANDSHAKE, "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
META = {
    "io.modelcontextprotocol/protocolVersion": STATELESS,
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}

ROADS = ("handshake", "stateless", "sse")


@pytest.fixture(autouse=True)
async def nothing_is_left() -> AsyncIterator[None]:
    async with no_leaks():
        yield


@pytest.fixture
async def server() -> AsyncIterator[HttpServer]:
    async with asyncio.timeout(PATIENCE), HttpServer() as started:
        yield started


def client_of(server: HttpServer, road: str, **how: Any) -> Client:
    if road == "sse":
        return Client(sse_client(server.sse_url), mode="legacy", **how)
    return Client(server.url, mode="legacy" if road == "handshake" else "auto", **how)


async def text_of(client: Client, tool: str, **arguments: Any) -> str:
    result = await client.call_tool(tool, arguments)
    (block,) = result.content
    return block.text


# As the SDK's clients see it


@pytest.mark.parametrize("road", ROADS)
async def test_the_sdks_client_is_served(server, road):
    async with client_of(server, road) as client:
        listed = await client.list_tools()
        failed = await client.call_tool("fail", {"reason": "as asked"})

        assert {"echo", "die"} <= {tool.name for tool in listed.tools}
        assert "zażółć\u2028" == await text_of(client, "echo", text="zażółć\u2028")
        assert (True, "as asked") == (failed.is_error, failed.content[0].text)
        assert (STATELESS if road == "stateless" else HANDSHAKE) == client.session.protocol_version
        with pytest.raises(MCPError, match="refused"):
            await client.call_tool("refuse", {"code": -32000})
        with pytest.raises(MCPError, match="no tool nothing"):
            await client.call_tool("nothing", {})


@pytest.mark.parametrize("form", ["json", "sse", "either"])
@pytest.mark.parametrize("road", ["handshake", "stateless"])
async def test_it_answers_in_every_form_that_a_client_must_understand(road, form):
    seen: list[tuple[float, float | None]] = []

    async def see(progress: float, total: float | None, message: str | None) -> None:
        seen.append((progress, total))

    async with HttpServer(form=form) as server, client_of(server, road) as client:
        result = await client.call_tool("progress", {"steps": 2, "seconds": 0.01}, progress_callback=see)

        assert "done" == result.content[0].text
        assert 900_000 == len(await text_of(client, "big", size=900_000))
    # Nothing but an event stream has room for it.
    assert ([] if form == "json" else [(1, 2), (2, 2)]) == seen


@pytest.mark.slow
@pytest.mark.parametrize("road", ROADS)
async def test_many_calls_share_a_session(server, road):
    async with client_of(server, road) as client:
        texts = await asyncio.gather(*(text_of(client, "echo", text=str(number)) for number in range(50)))
        counts = await asyncio.gather(*(text_of(client, "counter") for _ in range(50)))

    assert [str(number) for number in range(50)] == texts
    assert {*range(1, 51)} == {int(count) for count in counts}


@pytest.mark.parametrize("road", ["handshake", "sse"])
async def test_each_session_has_a_memory_of_its_own(server, road):
    async with client_of(server, road) as one, client_of(server, road) as other:
        assert ["1", "2"] == [await text_of(one, "counter"), await text_of(one, "counter")]
        assert "1" == await text_of(other, "counter")


@pytest.mark.parametrize("road", ROADS)
async def test_a_cancelled_call_is_cancelled_at_the_server(server, road):
    async with client_of(server, road) as client:
        call = asyncio.create_task(text_of(client, "sleep", seconds=LONG))
        await until(lambda: ["sleep"] == server.executed())

        call.cancel()

        await until(lambda: ["sleep", "cancel"] == server.executed())
        assert "usable" == await text_of(client, "echo", text="usable")
        await asyncio.wait([call])


async def test_a_client_of_the_handshake_that_is_lost_has_cancelled_nothing(server):
    async with http_client() as client:
        session = await shake_hands(client, server)
        post = asyncio.create_task(client.post(server.url, json=call("sleep", seconds=0.2), headers=session))
        await until(lambda: ["sleep"] == server.executed())
        post.cancel()
        await asyncio.wait([post])

    await asyncio.sleep(SILENCE)
    assert ["sleep"] == server.executed()


async def test_a_client_without_a_session_that_leaves_has_cancelled_its_call(server):
    async with http_client() as client:
        post = asyncio.create_task(client.post(server.url, **stateless("tools/call", call("sleep", seconds=LONG))))
        await until(lambda: ["sleep"] == server.executed())
        post.cancel()

        await until(lambda: ["sleep", "cancel"] == server.executed())
        await asyncio.wait([post])


@pytest.mark.parametrize("road", ["handshake", "sse"])
async def test_clients_hear_that_the_tools_have_changed(server, road):
    heard = asyncio.Event()

    async def hear(message: Any) -> None:
        if isinstance(message, ToolListChangedNotification):
            heard.set()

    async with client_of(server, road, message_handler=hear) as client:
        await until(lambda: road == "sse" or [each for each in server.requests if each.method == "GET"])
        server.listed.pop()
        server.tools_changed()

        await heard.wait()
        assert "die" not in {tool.name for tool in (await client.list_tools()).tools}


async def test_clients_without_a_session_hear_it_when_they_listen(server):
    async with client_of(server, "stateless") as client, client.listen(tools_list_changed=True) as changes:
        server.tools_changed()

        assert "ToolsListChanged" == type(await anext(aiter(changes))).__name__


async def test_a_call_does_not_wait_for_a_delayed_acknowledgement(server):
    async with client_of(server, "stateless") as client:
        await text_of(client, "echo", text="warm")
        began = time.monotonic()
        for _ in range(20):
            await text_of(client, "echo", text="x")

    # Nagle's algorithm costs 40 ms each time.
    assert time.monotonic() - began < 20 * 0.04


def test_the_tools_are_those_of_the_server_on_stdio():
    with StdioServer() as stdio:
        asked = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
        done = subprocess.run(stdio.command, input=asked, capture_output=True, text=True, timeout=PATIENCE, check=True)
    there = {tool["name"]: tool for tool in json.loads(done.stdout)["result"]["tools"]}

    for tool in HttpServer().listed:
        assert there[tool["name"]] == tool


# Sessions


async def test_a_session_begins_with_the_handshake_and_ends_with_delete(server):
    async with http_client() as client:
        session = await shake_hands(client, server)
        assert 1 == len(server.sessions)

        assert 200 == (await client.post(server.url, json=request("ping"), headers=session)).status_code
        assert 204 == (await client.delete(server.url, headers=session)).status_code
        assert 0 == len(server.sessions)
        assert 404 == (await client.post(server.url, json=request("ping"), headers=session)).status_code


async def test_whoever_has_no_session_is_told_so(server):
    async with http_client() as client:
        assert 400 == (await client.post(server.url, json=request("ping"), headers=ACCEPT)).status_code
        assert 400 == (await client.get(server.url, headers=ACCEPT)).status_code
        unknown = {**ACCEPT, "Mcp-Session-Id": "unknown"}
        assert 404 == (await client.post(server.url, json=request("ping"), headers=unknown)).status_code


async def test_sessions_that_are_forgotten_are_not_found(server):
    async with client_of(server, "handshake") as client:
        await text_of(client, "counter")
        server.sessions.forget()

        with pytest.raises(MCPError, match="there is no such session"):
            await text_of(client, "counter")
    assert ["counter"] == server.executed()


async def test_a_session_refuses_a_version_that_it_does_not_speak(server):
    async with http_client() as client:
        session = await shake_hands(client, server)
        for version, status in ((HANDSHAKE, 200), ("2024-11-05", 200), ("1999-01-01", 400)):
            headers = {**session, "MCP-Protocol-Version": version}
            assert status == (await client.post(server.url, json=request("ping"), headers=headers)).status_code


# Eras


async def test_a_server_of_the_handshake_is_found_by_a_client_of_both():
    async with HttpServer(eras=["handshake"]) as server, client_of(server, "stateless") as client:
        assert HANDSHAKE == client.session.protocol_version
        assert "x" == await text_of(client, "echo", text="x")


async def test_a_server_without_a_handshake_refuses_one_and_says_what_it_speaks():
    async with HttpServer(eras=["stateless"]) as server, http_client() as client:
        refusal = await client.post(server.url, json=request("initialize", **HELLO), headers=ACCEPT)

        assert 400 == refusal.status_code
        assert {"supported": [STATELESS], "requested": HANDSHAKE} == refusal.json()["error"]["data"]
        assert 405 == (await client.get(server.url, headers=ACCEPT)).status_code
        assert 405 == (await client.delete(server.url)).status_code


async def test_a_server_without_a_handshake_is_found_by_a_client_of_both():
    async with HttpServer(eras=["stateless"]) as server, client_of(server, "stateless") as client:
        assert STATELESS == client.session.protocol_version
        assert "x" == await text_of(client, "echo", text="x")


def without(headers: dict[str, str], name: str) -> dict[str, str]:
    return {key: value for key, value in headers.items() if key != name}


@pytest.mark.parametrize(
    ("spoil", "status", "code"),
    [
        (lambda how: how["headers"].pop("Mcp-Method"), 400, -32020),
        (lambda how: how["headers"].pop("Mcp-Name"), 400, -32020),
        (lambda how: how["headers"].pop("MCP-Protocol-Version"), 400, None),
        (lambda how: how["headers"].update({"Mcp-Method": "tools/list"}), 400, -32020),
        (lambda how: how["headers"].update({"Mcp-Name": "sleep"}), 400, -32020),
        (lambda how: how["headers"].update({"MCP-Protocol-Version": "2099-01-01"}), 400, -32020),
        (lambda how: how["json"]["params"].pop("_meta"), 400, -32602),
        (lambda how: how["json"].update(jsonrpc="1.0"), 400, None),
        (lambda how: how["headers"].pop("Accept"), 406, None),
        (lambda how: how["headers"].update({"Accept": "application/json"}), 406, None),
        (lambda how: how["headers"].update({"Content-Type": "text/plain"}), 415, None),
        (lambda how: how["headers"].update({"Origin": "http://evil.example"}), 403, None),
    ],
)
async def test_what_contradicts_itself_is_refused_and_not_executed(server, spoil, status, code):
    how = stateless("tools/call", call("echo", text="never"))
    spoil(how)

    async with http_client() as client:
        refusal = await client.post(server.url, **how)

    assert status == refusal.status_code
    assert code is None or code == refusal.json()["error"]["code"]
    assert [] == server.executed()


async def test_an_unknown_version_is_answered_with_those_that_are_spoken(server):
    how = stateless("server/discover")
    how["json"]["params"]["_meta"] = {**META, "io.modelcontextprotocol/protocolVersion": "2099-01-01"}
    how["headers"]["MCP-Protocol-Version"] = "2099-01-01"

    async with http_client() as client:
        refusal = await client.post(server.url, **how)

    assert (400, -32022) == (refusal.status_code, refusal.json()["error"]["code"])
    assert [STATELESS] == refusal.json()["error"]["data"]["supported"]


async def test_an_unknown_method_is_not_found(server):
    async with http_client() as client:
        refusal = await client.post(server.url, **stateless("no/such/method"))

    assert (404, -32601) == (refusal.status_code, refusal.json()["error"]["code"])


async def test_a_parameter_that_has_a_header_must_have_it(server):
    server.listed[0]["inputSchema"]["properties"]["text"] = {"type": "string", "x-mcp-header": "Text"}
    how = stateless("tools/call", call("echo", text="x"))

    async with http_client() as client:
        refused = await client.post(server.url, **how)
        how["headers"]["Mcp-Param-Text"] = "x"
        accepted = await client.post(server.url, **how)

    assert (400, 200) == (refused.status_code, accepted.status_code)
    assert ["echo"] == server.executed()


# HTTP+SSE


@pytest.mark.parametrize("refusal", [404, 405])
async def test_a_server_of_http_and_sse_alone_is_found_by_its_stream(refusal):
    async with HttpServer(only_sse=True, refusal=refusal) as server, http_client() as client:
        assert refusal == (await client.post(server.url, json=request("ping"), headers=ACCEPT)).status_code

        async with client.stream("GET", server.url, headers={"Accept": "text/event-stream"}) as stream:
            lines = stream.aiter_lines()
            assert "event: endpoint" == await anext(lines)
            assert (await anext(lines)).startswith("data: /messages?session_id=")
        async with Client(sse_client(server.url), mode="legacy") as sdk:
            assert "x" == await text_of(sdk, "echo", text="x")


async def test_an_endpoint_of_another_origin_is_what_a_test_asks_for(server):
    server.legacy.endpoint = "http://evil.example/messages"

    async with http_client() as client, client.stream("GET", server.sse_url) as stream:
        lines = stream.aiter_lines()
        await anext(lines)

        assert (await anext(lines)).startswith("data: http://evil.example/messages?session_id=")


async def test_a_stream_that_is_lost_ends_its_session(server):
    async with http_client() as client:
        async with client.stream("GET", server.sse_url) as stream:
            lines = stream.aiter_lines()
            await anext(lines)
            endpoint = server.origin + (await anext(lines)).removeprefix("data: ")
            assert 202 == (await client.post(endpoint, json=request("ping"))).status_code

        async with asyncio.timeout(PATIENCE):
            while (await client.post(endpoint, json=request("ping"))).status_code != 404:
                pass


# What goes wrong when it is told to


@pytest.mark.parametrize("executes", [False, True])
@pytest.mark.parametrize(
    "fault",
    [
        {"status": 500},
        {"status": 503},
        {"status": 429, "headers": {"Retry-After": "1"}},
        {"status": 401, "headers": {"WWW-Authenticate": "Bearer"}},
        {"status": 403},
        {"status": 404},
        {"status": 200, "body": b""},
        {"status": 202, "body": b""},
        {"status": 200, "content_type": "text/plain", "body": "hello"},
    ],
)
async def test_it_answers_what_it_is_told_once(server, fault, executes):
    async with http_client() as client:
        session = await shake_hands(client, server)
        server.spoil("tools/call", Answers(**fault, executes=executes))
        spoilt = await client.post(server.url, json=call("echo", text="x"), headers=session)
        sound = await client.post(server.url, json=call("echo", text="x"), headers=session)

    assert (fault["status"], 200) == (spoilt.status_code, sound.status_code)
    assert all(spoilt.headers[name] == value for name, value in fault.get("headers", {}).items())
    assert fault.get("body", HTML) in (spoilt.content, spoilt.text)
    assert (["echo"] if executes else []) + ["echo"] == server.executed()


@pytest.mark.parametrize("road", ["handshake", "stateless"])
@pytest.mark.parametrize("executes", [False, True])
@pytest.mark.parametrize("after", ["nothing", "headers", "half"])
async def test_it_breaks_the_connection_where_it_is_told(server, road, after, executes):
    async with http_client() as client:
        session = await shake_hands(client, server)
        server.spoil("tools/call", CutOff(after, executes=executes))
        how = stateless("tools/call", call("echo", text="x"))
        how = how if road == "stateless" else {"json": call("echo", text="x"), "headers": session}

        arrived: list[str] = []

        async def post() -> None:
            async with client.stream("POST", server.url, **how) as response:
                arrived.append("headers")
                async for _ in response.aiter_raw():
                    arrived.append("half")  # noqa: PERF401 - a list that is not finished would be lost

        with pytest.raises(httpx2.RemoteProtocolError):
            await post()

    assert {"nothing": [], "headers": ["headers"], "half": ["headers", "half"]}[after] == arrived
    assert (["echo"] if executes else []) == server.executed()


@pytest.mark.parametrize("after", [0, 1])
async def test_a_stream_that_ends_early_is_resumed(server, after):
    seen: list[float] = []

    async def see(progress: float, total: float | None, message: str | None) -> None:
        seen.append(progress)

    async with client_of(server, "handshake") as client:
        server.spoil("tools/call", EndsEarly(after))
        result = await client.call_tool("progress", {"steps": 3, "seconds": 0.01}, progress_callback=see)

    assert "done" == result.content[0].text
    assert [1, 2, 3] == seen
    assert ["progress"] == server.executed()
    assert [f"request-2/{after}"] == [each.headers["Last-Event-ID"] for each in server.requests if is_resuming(each)]


def is_resuming(heard: Any) -> bool:
    return "Last-Event-ID" in heard.headers


async def test_without_a_session_there_is_nothing_to_resume(server):
    async with client_of(server, "stateless") as client:
        server.spoil("tools/call", EndsEarly())

        with pytest.raises(MCPError, match="ended without a response"):
            await text_of(client, "echo", text="x")
    assert ["echo"] == server.executed()
    assert not any(is_resuming(each) for each in server.requests)


async def test_the_stream_of_http_and_sse_ends_without_the_answer(server):
    async with client_of(server, "sse") as client:
        server.spoil("tools/call", EndsEarly())

        with pytest.raises(MCPError, match="Connection closed"):
            await text_of(client, "echo", text="x")
    assert ["echo"] == server.executed()


async def test_it_hangs_until_the_client_leaves(server):
    async with http_client() as client:
        server.spoil("tools/call", Hangs(executes=True))

        with pytest.raises(httpx2.ReadTimeout):
            await client.post(server.url, **stateless("tools/call", call("echo", text="x")), timeout=SILENCE)
    assert ["echo"] == server.executed()


async def test_a_redirect_within_the_origin_leads_to_the_same_server(server):
    async with client_of(server, "stateless") as client:
        server.spoil("tools/call", redirect("/moved"))

        assert "x" == await text_of(client, "echo", text="x")
    assert ["/mcp", "/moved"] == [each.path for each in server.heard("tools/call")]


@pytest.mark.parametrize("status", [302, 307])
async def test_a_redirect_to_another_origin_is_as_it_is_told(server, status):
    async with HttpServer() as other, http_client() as client:
        server.spoil("tools/call", redirect(other.url, status))

        redirected = await client.post(server.url, **stateless("tools/call", call("echo", text="x")))

    assert (status, other.url) == (redirected.status_code, redirected.headers["Location"])


async def test_get_and_delete_and_any_method_can_be_spoilt(server):
    async with http_client() as client:
        server.spoil("initialize", Answers(503), Answers(500))
        statuses = [
            (await client.post(server.url, json=request("initialize", **HELLO), headers=ACCEPT)).status_code
            for _ in range(3)
        ]
        session = await shake_hands(client, server)
        server.spoil("GET", Answers(405))
        server.spoil("DELETE", Answers(405))

        assert [503, 500, 200] == statuses
        assert 405 == (await client.get(server.url, headers=session)).status_code
        assert 405 == (await client.delete(server.url, headers=session)).status_code
        assert 204 == (await client.delete(server.url, headers=session)).status_code


async def test_frozen_it_answers_nothing_and_goes_on_afterwards(server):
    async with http_client() as client:
        async with server.frozen():
            post = asyncio.create_task(client.post(server.url, **stateless("tools/call", call("echo", text="x"))))
            await until(lambda: server.heard("tools/call"))
            await asyncio.wait([post], timeout=SILENCE)
            assert not post.done()
            assert [] == server.executed()

        assert 200 == (await post).status_code
    assert ["echo"] == server.executed()


async def test_what_came_is_remembered(server):
    async with http_client(headers={"X-Team": "core"}) as client:
        await client.post(server.url, **stateless("tools/call", call("echo", text="x")))

    (heard,) = server.heard("tools/call")
    assert ("POST", "/mcp") == (heard.method, heard.path)
    assert ("core", "echo") == (heard.headers["x-team"], heard.headers["Mcp-Name"])
    assert {"text": "x"} == heard.message["params"]["arguments"]


# Being gone


@pytest.mark.parametrize("road", ["handshake", "stateless"])
async def test_cut_off_it_is_gone_at_once_and_witnesses_nothing_more(server, road):
    async with http_client() as client:
        session = await shake_hands(client, server)
        asked = call("sleep", seconds=LONG)
        how = stateless("tools/call", asked) if road == "stateless" else {"json": asked, "headers": session}
        posts = [asyncio.create_task(client.post(server.url, **how)) for _ in range(3)]
        await until(lambda: 3 == len(server.executed()))
        began = time.monotonic()

        await server.cut()

        assert time.monotonic() - began < 1.0
        ends = await asyncio.gather(*posts, return_exceptions=True)
        assert 3 * [httpx2.RemoteProtocolError] == [type(end) for end in ends]
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", server.port)
    assert 3 * ["sleep"] == server.executed()


async def test_cut_off_its_streams_have_ended_and_witness_nothing_more(server):
    async with client_of(server, "sse") as client:
        calls = [asyncio.create_task(text_of(client, "sleep", seconds=LONG)) for _ in range(3)]
        await until(lambda: 3 == len(server.executed()))

        await server.cut()

        ends = await asyncio.gather(*calls, return_exceptions=True)
        assert 3 * ["Connection closed"] == [str(end) for end in ends]
    assert 3 * ["sleep"] == server.executed()


@pytest.mark.parametrize("turns", range(10))
async def test_cut_off_no_connection_is_left_however_new_it_is(server, turns):
    connecting = asyncio.create_task(asyncio.open_connection("127.0.0.1", server.port))
    for _ in range(turns):
        await asyncio.sleep(0)

    await server.cut()

    with contextlib.suppress(ConnectionError):
        reader, writer = await connecting
        assert b"" == await asyncio.wait_for(reader.read(), PATIENCE)
        writer.close()


async def test_started_again_it_is_at_the_same_place_and_remembers_nothing(server):
    url = server.url
    async with http_client() as client:
        session = await shake_hands(client, server)
        await client.post(server.url, json=call("counter"), headers=session)

        await server.cut()
        await server.start()

        assert url == server.url
        assert 404 == (await client.post(server.url, json=request("ping"), headers=session)).status_code
        counted = await client.post(server.url, **stateless("tools/call", call("counter")))
        assert "1" == counted.json()["result"]["content"][0]["text"]
    assert ["counter", "counter"] == server.executed()


async def test_it_dies_when_it_is_asked_to(server):
    async with http_client() as client:
        with pytest.raises(httpx2.TransportError):
            await client.post(server.url, **stateless("tools/call", call("die", status=9)))
        with pytest.raises(httpx2.ConnectError):
            await client.get(server.url)

        await server.start()
        assert 200 == (await client.post(server.url, **stateless("server/discover"))).status_code
    assert ["die"] == server.executed()


# As a process


@pytest.mark.slow
def test_as_a_process_it_says_where_it_is_and_has_its_witness_in_a_file(tmp_path: Path):
    command = [sys.executable, "-m", "tasak.testing.http_server"]
    environment = {**os.environ, "EXEC": str(tmp_path / "executed")}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        urls = json.loads(process.stdout.readline())
        answer = httpx2.post(urls["url"], **stateless("tools/call", call("echo", text="x")))
        process.kill()

    assert "x" == answer.json()["result"]["content"][0]["text"]
    assert "echo\n" == (tmp_path / "executed").read_text()


# The wire, by hand


def request(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def call(tool: str, **arguments: Any) -> dict[str, Any]:
    return request("tools/call", name=tool, arguments=arguments)


def stateless(method: str, message: dict[str, Any] | None = None) -> dict[str, Any]:
    """What `post` is given for a request of the stateless era."""
    message = message or request(method)
    params = {**message["params"], "_meta": META}
    headers = {**ACCEPT, "MCP-Protocol-Version": STATELESS, "Mcp-Method": method}
    if "name" in params:
        headers["Mcp-Name"] = params["name"]
    return {"json": {**message, "params": params}, "headers": headers}


async def shake_hands(client: httpx2.AsyncClient, server: HttpServer) -> dict[str, str]:
    """The headers of a session that has begun."""
    answer = await client.post(server.url, json=request("initialize", **HELLO), headers=ACCEPT)
    return {**ACCEPT, "Mcp-Session-Id": answer.headers["Mcp-Session-Id"]}
