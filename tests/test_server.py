"""The HTTP face over a real Unix socket, with the real core and a real server behind it."""

import asyncio
import io
import json
import logging
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlencode

import aiohttp
import pytest
import yaml

from tasak import __version__, callers, front_door
from tasak.callers import Entrance
from tasak.core.gateway import Gateway
from tasak.paths import StateDir
from tasak.plugin import OnProgress, Progress
from tasak.request import Reply, Request
from tasak.server import create_app
from tasak.service import Service
from tasak.wire import MAX_BODY, RESERVED, WIRE_VERSION
from tests.core.pool import until
from tests.shell import FAST_APP, is_alive

# Longer than anything here takes on a busy machine.
PATIENCE = 20.0
NOBODY = 65534
UPTIME = 12.5

CALL = "/tools/call/fast"
PLAIN = {"Accept": "text/plain"}
JSON = {"Accept": "application/json"}
NDJSON = {"Accept": "application/x-ndjson"}


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The one shape of an error, and nothing beside it."""
        (error,) = self.json.values()
        assert ["code", "message", "fix", "outcome", "retry"] == list(error)
        return error

    @property
    def refusal(self) -> tuple[int, str]:
        return self.status, self.error["code"]

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.body.splitlines()]

    @property
    def notices(self) -> list[str]:
        return self.headers.getall("Tasak-Notice", [])


class Face:
    """The application as the daemon serves it, a client of it, and the app `fast` with a witness of what has run."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.state = StateDir(home / ".tasak")
        self.state.create()
        self.clock = Clock()
        self.stopped = asyncio.Event()
        self.service = Service(
            gateway=Gateway(self.state, environment={}, clock=self.clock),
            instance="the-instance",
            uptime=lambda: UPTIME,
            stop=self.stopped.set,
        )
        self._witness = home / "witness"
        self.fast = {**FAST_APP, "env": {"EXEC": str(self._witness)}}
        self.configure({"fast": self.fast})

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["Face"]:
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(self.state.socket))
        listening.setblocking(False)
        entrance = await Entrance.open(create_app(self.service), listening, share=0.5)
        connector = aiohttp.UnixConnector(str(self.state.socket))
        timeout = aiohttp.ClientTimeout(total=PATIENCE)
        try:
            async with aiohttp.ClientSession("http://tasak", connector=connector, timeout=timeout) as self.client:
                yield self
        finally:
            await self.service.drain(0)
            await entrance.close()

    def configure(self, apps: Mapping[str, Any], folder: Path | None = None) -> Path:
        path = folder / "tasak.yaml" if folder else self.state.config
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump({"apps": apps}))
        path.chmod(0o600)
        return path

    @property
    def ran(self) -> list[str]:
        return self._witness.read_text().split() if self._witness.exists() else []

    async def has_run(self, *words: str) -> None:
        await until(lambda: [*words] == self.ran)

    async def ask(self, method: str, path: str, content: bytes = b"", **headers: str) -> Answer:
        headers = {"Content-Type": "application/json", **headers}
        async with self.client.request(method, path, data=io.BytesIO(content), headers=headers) as response:
            return Answer(response.status, response.headers, await response.read())

    async def get(self, path: str, **headers: str) -> Answer:
        return await self.ask("GET", path, **headers)

    async def post(self, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        content = b"" if body is None else json.dumps(body).encode()
        return await self.ask("POST", path, content, **(headers or {}))

    async def call(self, tool: str, /, **arguments: Any) -> Answer:
        return await self.post(CALL, {"tool": tool, "arguments": arguments})

    async def type(self, tool: str, *argv: str, headers: Mapping[str, str] = PLAIN, **fields: Any) -> Answer:
        """A call as the command makes it, with the words of its line."""
        return await self.post(CALL, {"tool": tool, "argv": argv, **fields}, headers)

    async def connection(self) -> dict[str, Any]:
        (only,) = (await self.get("/connections")).json["connections"]
        return only


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name in [name for name in os.environ if name.startswith("TASAK_")]:
        monkeypatch.delenv(name)
    # Not pytest's tmp_path: socket paths are short.
    with tempfile.TemporaryDirectory(prefix="tasak", dir="/tmp") as made:
        real = os.path.realpath(made)
        monkeypatch.setenv("HOME", real)
        yield Path(real)


@pytest.fixture
async def face(home: Path) -> AsyncIterator[Face]:
    async with Face(home).serving() as made:
        yield made


# GET /health


async def test_health_says_who_answers(face):
    answer = await face.get("/health")

    expected = {
        "status": "ok",
        "version": __version__,
        "wire_version": WIRE_VERSION,
        "instance": "the-instance",
        "pid": os.getpid(),
        "uptime": UPTIME,
        "draining": False,
        "connections": 0,
        "notices": [],
        "failing": [],
        "lost": [],
        "transports": {},
        "tcp": None,
        "tcp_problem": None,
    }
    assert (200, expected) == (answer.status, answer.json)


async def test_health_counts_connections(face):
    await face.call("echo", text="hi")

    assert 1 == (await face.get("/health")).json["connections"]


async def test_health_names_the_apps_that_fail_to_connect_and_why(face):
    face.configure({"fast": {"command": ["sh", "-c", "echo no licence >&2; exit 1"]}})
    await face.call("echo", text="hi")

    (failing,) = (await face.get("/health")).json["failing"]

    assert ("fast", "backoff", 1) == (failing["app"], failing["state"], failing["failures"])
    assert "no licence" in failing["last_error"]


# GET /apps


async def test_the_apps_are_listed_with_the_file_that_defines_each(face):
    listed = {app["name"]: app for app in (await face.get("/apps")).json["apps"]}

    assert ["demo", "fast"] == sorted(listed)
    assert ("stdio", "idle", str(face.state.config), None) == tuple(
        listed["fast"][key] for key in ("transport", "state", "file", "error")
    )
    assert None is listed["demo"]["file"]


async def test_an_app_in_use_is_listed_as_ready(face):
    await face.call("echo", text="hi")

    assert "ready" == {app["name"]: app["state"] for app in (await face.get("/apps")).json["apps"]}["fast"]


async def test_the_apps_of_a_project_are_seen_from_inside_it(face):
    file = face.configure({"local": FAST_APP}, face.home / "a project")

    outside = (await face.get("/apps")).json["apps"]
    inside = (await face.get(f"/apps?cwd={quote(str(file.parent))}")).json["apps"]

    assert "local" not in [app["name"] for app in outside]
    assert str(file) in [app["file"] for app in inside if app["name"] == "local"]


async def test_the_apps_of_one_file_are_listed_alone(face):
    file = face.configure({"alone": FAST_APP}, face.home / "elsewhere")

    listed = (await face.get(f"/apps?config={quote(str(file))}")).json["apps"]

    assert ["alone"] == [app["name"] for app in listed if app["name"] != "demo"]


@pytest.mark.parametrize("folder", ["here", "../there", "%00", "/a%00b"])
async def test_a_folder_that_is_no_absolute_path_is_refused(face, folder):
    assert (400, "bad_request") == (await face.get(f"/apps?cwd={folder}")).refusal


async def test_a_folder_or_a_file_whose_name_is_not_utf_8_is_named_byte_by_byte(face):
    folder = face.home / os.fsdecode(b"\xff+ %20")
    folder.mkdir()
    config = face.configure({"odd": FAST_APP}, folder).rename(folder / os.fsdecode(b"\xfe.yaml"))
    query = urlencode({"cwd": folder, "config": config}, errors="surrogateescape")

    listed = (await face.get(f"/apps?{query}")).json["apps"]

    assert [("demo", None), ("odd", str(config))] == [(each["name"], each["file"]) for each in listed]


async def test_what_is_wrong_with_a_file_is_told_beside_the_apps_that_work(face):
    face.configure({"fast": face.fast, "list": FAST_APP})

    told = (await face.get("/apps")).json

    assert "fast" in [app["name"] for app in told["apps"]]
    (notice,) = told["notices"]
    assert "`tasak -- list`" in notice


# GET /apps/{app}/ping


async def test_an_app_without_a_connection_is_not_well(face):
    answer = await face.get("/apps/fast/ping")

    assert (503, {"app": "fast", "ok": False, "connections": []}) == (answer.status, answer.json)


async def test_a_shallow_ping_tells_what_the_pool_knows_and_asks_nobody(face):
    await face.call("echo", text="hi")

    answer = await face.get("/apps/fast/ping")

    (report,) = answer.json["connections"]
    assert (200, True, "ready") == (answer.status, answer.json["ok"], report["state"])
    assert "latency_ms" not in report


async def test_a_deep_ping_makes_a_round_trip_and_says_what_it_found(face):
    await face.call("complain", text="I am full")

    answer = await face.get("/apps/fast/ping?deep=true")

    (report,) = answer.json["connections"]
    assert (200, True) == (answer.status, report["ok"])
    assert report["latency_ms"] > 0
    assert {"name": "stdio_server", "version": "1"} == report["server_info"]
    assert report["protocol_version"]
    assert (0.0, None) == (report["last_success"], report["last_error"])
    assert ["I am full"] == report["stderr"]


async def test_a_ping_opens_a_connection_only_where_it_is_asked_to(face):
    started = await face.get("/apps/fast/ping?start=true&deep=true")

    assert (200, True) == (started.status, started.json["ok"])
    assert 200 == (await face.get("/apps/fast/ping")).status


async def test_a_ping_that_cannot_open_one_says_why(face):
    face.configure({"broken": {"command": ["/bin/sh", "-c", "echo no luck >&2; exit 7"]}})

    answer = await face.get("/apps/broken/ping?start=true")

    assert (503, "connect_failed") == answer.refusal
    assert "no luck" in answer.error["message"]
    assert "status 7" in answer.error["message"]


async def test_a_ping_tells_of_an_app_that_failed_to_connect(face):
    face.configure({"broken": {"command": ["/bin/sh", "-c", "exit 7"]}})
    await face.get("/apps/broken/ping?start=true")

    answer = await face.get("/apps/broken/ping")

    (report,) = answer.json["connections"]
    assert (503, "backoff", 1) == (answer.status, report["state"], report["failures"])


async def test_a_ping_of_an_unknown_app_is_404_and_names_the_nearest(face):
    answer = await face.get("/apps/fats/ping")

    assert (404, "unknown_app") == answer.refusal
    assert "did you mean 'fast'?" == answer.error["fix"]


async def test_a_ping_finds_the_app_where_the_caller_stands(face):
    file = face.configure({"local": FAST_APP}, face.home / "project")

    assert 404 == (await face.get("/apps/local/ping?start=true")).status
    assert 200 == (await face.get(f"/apps/local/ping?start=true&cwd={file.parent}")).status


@pytest.mark.parametrize("query", ["deep=yes", "deep=1", "start=", "start=True"])
async def test_a_flag_is_true_or_false(face, query):
    assert (400, "bad_request") == (await face.get(f"/apps/fast/ping?{query}")).refusal


# POST /tools/list/{app}


async def test_the_tools_are_listed_as_the_server_describes_them(face):
    answer = await face.post("/tools/list/fast")

    echo = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
    assert {"name": "echo", "description": "The tool echo.", "inputSchema": echo} == answer.json["tools"][0]
    assert (200, "fast", "new") == (answer.status, answer.json["app"], answer.headers["Tasak-Session"])


async def test_a_tool_list_is_cached_until_its_time_is_over_or_it_is_refreshed(face):
    async def listed(query: str = "") -> tuple[bool, float, float, str]:
        answer = await face.post(f"/tools/list/fast{query}", {})
        return answer.json["cached"], answer.json["age"], answer.json["ttl"], answer.headers["Tasak-Session"]

    assert (False, 0.0, 900.0, "new") == await listed()
    face.clock.now += 10
    assert (True, 10.0, 900.0, "warm") == await listed()
    assert (False, 0.0, 900.0, "warm") == await listed("?refresh=true")
    assert (True, 0.0, 900.0, "warm") == await listed("?refresh=false")
    face.clock.now += 901
    assert (False, 0.0, 900.0, "warm") == await listed()


async def test_a_tool_list_is_that_of_the_callers_app(face):
    file = face.configure({"local": FAST_APP}, face.home / "project")

    there = await face.post("/tools/list/local", {"cwd": str(file.parent), "env": {}, "session": "mine"})

    assert 200 == there.status
    assert "mine" == (await face.connection())["session"]
    assert (404, "unknown_app") == (await face.post("/tools/list/local", {})).refusal


async def test_a_list_takes_no_fields_of_a_call(face):
    answer = await face.post("/tools/list/fast", {"tool": "echo"})

    assert (400, "bad_request") == answer.refusal
    assert "known are: cwd, env, read_only, session" == answer.error["fix"]


# POST /tools/call/{app}: what comes back


async def test_a_call_answers_the_result_as_the_server_sent_it(face):
    answer = await face.call("echo", text="zażółć")

    assert {"content": [{"type": "text", "text": "zażółć"}], "isError": False} == answer.json
    assert "application/json; charset=utf-8" == answer.headers["Content-Type"]
    assert answer.body.endswith(b"}\n")


async def test_words_become_arguments_and_the_answer_bytes_to_print(face):
    answer = await face.type("echo", "--text", "zażółć")

    assert (200, "zażółć\n".encode(), "0") == (answer.status, answer.body, answer.headers["Tasak-Exit"])
    assert "text/plain; charset=utf-8" == answer.headers["Content-Type"]
    assert len(answer.body) == int(answer.headers["Content-Length"])


@pytest.mark.parametrize("accept", [JSON, {}, {"Accept": "*/*"}], ids=["json", "nothing", "anything"])
async def test_words_may_have_an_answer_in_json(face, accept):
    answer = await face.type("echo", "--text", "hi", headers=accept)

    assert ("hi", "0") == (answer.json["content"][0]["text"], answer.headers["Tasak-Exit"])


async def test_a_tool_that_says_error_is_200_with_its_exit_status(face):
    answer = await face.type("fail", "--reason", "no luck")

    assert (200, b"no luck\n", "5") == (answer.status, answer.body, answer.headers["Tasak-Exit"])


async def test_a_tools_help_is_an_answer_for_which_nothing_ran(face):
    printed = await face.type("echo", "--help")
    told = await face.type("echo", "--help", headers=JSON)

    assert (200, "0") == (printed.status, printed.headers["Tasak-Exit"])
    assert {"help": printed.body.decode()} == told.json
    assert [] == face.ran


async def test_a_session_is_new_then_warm_then_restarted_and_the_loss_is_said(face):
    async def mark() -> tuple[str, list[str]]:
        answer = await face.type("counter")
        return answer.headers["Tasak-Session"], [unquote(notice) for notice in answer.notices]

    assert ("new", []) == await mark()
    assert ("warm", []) == await mark()
    await face.call("die", status=3)
    assert ("restarted", ["fast: this is a fresh session; the state of the earlier one is gone"]) == await mark()
    assert ("warm", []) == await mark()


async def test_a_private_session_shares_no_state(face):
    await face.type("counter")

    mine = await face.type("counter", session="mine")

    assert (b"1\n", "new") == (mine.body, mine.headers["Tasak-Session"])
    assert b"2\n" == (await face.type("counter")).body


async def test_a_notice_is_one_line_of_percent_encoding_and_is_given_once(face):
    folder = face.home / "żółć\nX-Injected: %0d"
    face.configure({"local": {**FAST_APP, "envFile": ".env"}}, folder)
    body = {"tool": "echo", "argv": ["--text", "hi"], "cwd": str(folder)}

    first = await face.post("/tools/call/local", body, PLAIN)
    second = await face.post("/tools/call/local", body, PLAIN)

    (notice,) = first.notices
    assert notice.isascii()
    assert f"app 'local' in {folder}/tasak.yaml: ignored" in unquote(notice)
    assert (200, b"hi\n") == (first.status, first.body)
    assert "X-Injected" not in first.headers
    assert [] == second.notices


async def test_a_notice_about_a_folder_whose_name_is_not_utf8_does_not_cost_the_answer(face):
    folder = face.home / os.fsdecode(b"\xff")
    face.configure({"local": {**FAST_APP, "envFile": ".env"}}, folder)

    answer = await face.post("/tools/call/local", {"tool": "echo", "argv": ["--text", "hi"], "cwd": str(folder)}, PLAIN)

    assert (200, b"hi\n") == (answer.status, answer.body)
    assert 1 == len(answer.notices)


async def test_a_call_without_a_folder_or_an_environment_is_made_at_home_with_the_daemons(face, monkeypatch):
    monkeypatch.setenv("OF_THE_DAEMON", "yes")
    face.configure({"fast": {**FAST_APP, "cwd": "caller", "env": {"SEEN": "${OF_THE_DAEMON}"}}})

    assert f"{face.home}\n" == (await face.type("where")).body.decode()
    assert "yes" == json.loads((await face.type("environment")).body)["SEEN"]


async def test_the_callers_folder_and_environment_count(face, tmp_path):
    face.configure({"fast": {**FAST_APP, "cwd": "caller", "env": {"SEEN": "${MINE}"}}})
    caller = {"cwd": str(tmp_path), "env": {"MINE": "mine"}}

    assert f"{tmp_path}\n" == (await face.type("where", **caller)).body.decode()
    assert "mine" == json.loads((await face.type("environment", **caller)).body)["SEEN"]


# Streams


async def test_a_stream_has_its_progress_a_line_each_and_then_the_answer(face):
    answer = await face.type("progress", "--steps", "20", "--seconds", "0", headers=NDJSON)

    *steps, last = answer.lines
    assert (200, "application/x-ndjson") == (answer.status, answer.headers["Content-Type"])
    assert [{"progress": {"progress": step, "total": 20, "message": None}} for step in range(1, 21)] == steps
    assert (0, "new", []) == tuple(last["answer"][key] for key in ("exit", "session", "notices"))
    assert "done" == json.loads(last["answer"]["body"])["content"][0]["text"]


async def test_progress_comes_while_the_tool_is_at_work(face):
    body = {"tool": "progress", "arguments": {"steps": 1000, "seconds": 0.1}}

    async with face.client.post(CALL, json=body, headers=NDJSON) as response:
        lines = [json.loads(await response.content.readline()) for _ in range(2)]

    assert [1, 2] == [line["progress"]["progress"] for line in lines]
    await face.has_run("progress", "cancel")


async def test_a_stream_without_progress_is_the_answer_alone(face):
    answer = await face.type("echo", "--text", "hi", headers=NDJSON)

    (line,) = answer.lines
    assert (200, "application/x-ndjson", 0) == (answer.status, answer.headers["Content-Type"], line["answer"]["exit"])


@pytest.mark.parametrize(("headers", "is_terminal"), [(NDJSON, False), (PLAIN, True)])
async def test_a_failure_before_there_was_progress_has_its_own_status(face, headers, is_terminal):
    answer = await face.type("refuse", "--code", "-32000", headers=headers, tty=is_terminal)

    assert (502, "server_error") == answer.refusal


async def test_a_stream_that_has_begun_ends_with_the_failure(face):
    body = {"tool": "progress", "arguments": {"steps": 1000, "seconds": 0.1}}

    async with face.client.post(CALL, json=body, headers=NDJSON) as response:
        first = json.loads(await response.content.readline())
        await face.ask("DELETE", f"/connections/{(await face.connection())['id']}")
        *_, last = (await response.content.read()).splitlines()

    assert (200, 1) == (response.status, first["progress"]["progress"])
    assert "session_lost" == json.loads(last)["error"]["code"]


async def test_a_terminal_hears_progress_and_then_what_to_print(face):
    answer = await face.type("progress", "--steps", "2", "--seconds", "0.1", tty=True)

    first, *_, last = answer.lines
    assert "application/x-ndjson" == answer.headers["Content-Type"]
    assert 1 == first["progress"]["progress"]
    assert (0, "done\n") == (last["answer"]["exit"], last["answer"]["body"])


async def test_without_progress_a_terminal_has_a_plain_answer(face):
    answer = await face.type("echo", "--text", "hi", tty=True)

    assert ("text/plain; charset=utf-8", b"hi\n") == (answer.headers["Content-Type"], answer.body)
    assert (200, "0", "new") == (answer.status, answer.headers["Tasak-Exit"], answer.headers["Tasak-Session"])


async def test_progress_is_not_streamed_to_whoever_has_no_terminal(face):
    answer = await face.type("progress", "--steps", "1", "--seconds", "0")

    assert ("text/plain; charset=utf-8", b"done\n") == (answer.headers["Content-Type"], answer.body)


async def test_what_acts_on_a_terminal_is_shown_only_there_as_text(face):
    active = "\x1b]0;owned\x07"

    assert b"\\x1b]0;owned\\x07\n" == (await face.type("echo", "--text", active, tty=True)).body
    assert f"{active}\n".encode() == (await face.type("echo", "--text", active)).body


# Clients that hang up


@pytest.mark.parametrize("headers", [PLAIN, JSON])
@pytest.mark.parametrize("is_terminal", [False, True], ids=["pipe", "tty"])
async def test_a_client_that_hangs_up_cancels_its_call_at_the_server_and_no_other(face, headers, is_terminal):
    other = asyncio.create_task(face.type("sleep", "--seconds", "0.3"))
    await face.has_run("sleep")
    dropped = asyncio.create_task(face.type("sleep", "--seconds", "60", headers=headers, tty=is_terminal))
    await face.has_run("sleep", "sleep")

    dropped.cancel()

    await face.has_run("sleep", "sleep", "cancel")
    assert b"slept\n" == (await other).body
    assert "warm" == (await face.type("echo", "--text", "hi")).headers["Tasak-Session"]


class TalksToWhoHasLeft(Gateway):
    """Its calls tell progress, and more of it once their caller has left."""

    has_left: asyncio.Event

    async def call(self, request: Request, on_progress: OnProgress | None = None) -> Reply:
        assert on_progress is not None
        on_progress(Progress(progress=1, total=None, message=None))
        await self.has_left.wait()
        on_progress(Progress(progress=2, total=None, message=None))
        return await asyncio.Future()


async def test_a_client_that_hangs_up_while_it_is_told_of_progress_is_no_bug_of_ours(face, caplog):
    face.service.gateway = gateway = TalksToWhoHasLeft(face.state, environment={})
    gateway.has_left = asyncio.Event()
    content = b'{"tool": "echo", "argv": []}'
    head = f"POST {CALL} HTTP/1.1\r\nHost: tasak\r\nAccept: application/x-ndjson\r\nContent-Length: {len(content)}\r\n"
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(face.state.socket))
        client.setblocking(False)
        client.send(f"{head}Content-Type: application/json\r\n\r\n".encode() + content)
        assert b"200 OK" in await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 1000), PATIENCE)
    gateway.has_left.set()

    await until(lambda: not face.service.running)

    assert [] == [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


# Calls with an id, and GET /outcomes/{call_id}


HOW_TO_ASK = "`tasak outcome once` tells what is known of it"


async def test_a_call_with_an_id_runs_once_and_its_answer_is_given_again(face):
    answers = [await face.type("echo", "--text", "hi", call_id="once") for _ in range(2)]

    assert [(200, b"hi\n", "0")] * 2 == [(each.status, each.body, each.headers["Tasak-Exit"]) for each in answers]
    assert [] == answers[0].notices
    (notice,) = answers[1].notices
    assert notice.startswith("call once was made 0.0 s ago")
    assert ["echo"] == face.ran


async def test_twenty_callers_of_one_id_get_one_answer_in_the_form_that_each_wants(face):
    asked = [face.type("sleep", "--seconds", "0.5", call_id="once") for _ in range(19)]
    asked.append(face.type("sleep", "--seconds", "0.5", headers={**PLAIN}, call_id="once", tty=True))

    answers = await asyncio.gather(*asked)

    assert [(200, b"slept\n")] * 20 == [(each.status, each.body) for each in answers]
    assert ["sleep"] == face.ran


async def test_a_stream_of_a_call_with_an_id_tells_progress_once_and_the_answer_again(face):
    body = {"tool": "progress", "arguments": {"steps": 2, "seconds": 0.01}, "call_id": "once"}

    first, second = [await face.post(CALL, body, NDJSON) for _ in range(2)]

    assert ["progress", "progress", "answer"] == [name for line in first.lines for name in line]
    (last,) = second.lines
    assert first.lines[-1]["answer"]["body"] == last["answer"]["body"]
    assert 1 == len(last["answer"]["notices"])
    assert ["progress"] == face.ran


async def test_an_answer_that_was_kept_is_inert_for_a_terminal_and_for_no_one_else(face):
    argv = ("echo", "--text", "\x1b[2J")

    bodies = [(await face.type(*argv, call_id="once", tty=tty)).body for tty in (False, True, False)]
    first_on_terminal = [(await face.type(*argv, call_id="twice", tty=tty)).body for tty in (True, False)]

    assert [b"\x1b[2J\n", b"\\x1b[2J\n", b"\x1b[2J\n"] == bodies
    assert [b"\\x1b[2J\n", b"\x1b[2J\n"] == first_on_terminal


async def test_an_id_is_for_one_call_and_one_form_of_answer(face):
    await face.type("echo", "--text", "hi", call_id="once")

    others = [
        await face.type("echo", "--text", "ho", call_id="once"),
        await face.type("echo", "--text", "hi", headers=JSON, call_id="once"),
        await face.post(CALL, {"tool": "echo", "arguments": {"text": "hi"}, "call_id": "once"}, PLAIN),
    ]

    assert [(400, "bad_arguments")] * 3 == [each.refusal for each in others]
    assert ["echo"] == face.ran


@pytest.mark.parametrize("call_id", ["a b", "a/b", "ü", "x" * 129])
async def test_what_is_no_id_is_refused(face, call_id):
    called = await face.type("echo", "--text", "hi", call_id=call_id)
    asked = await face.get(f"/outcomes/{quote(call_id, safe='')}")

    assert [(400, "bad_arguments")] * 2 == [called.refusal, asked.refusal]
    assert [] == face.ran


async def test_an_answer_that_was_too_long_to_keep_is_410_the_second_time(face):
    first, second = [await face.type("big", "--size", str(64 << 10), call_id="once") for _ in range(2)]

    assert (200, (64 << 10) + 1) == (first.status, len(first.body))
    assert (410, "answer_gone") == second.refusal
    assert ["big"] == face.ran


async def test_what_may_have_run_does_not_run_again_and_says_how_to_ask(face):
    first, second = [await face.type("die", "--status", "9", call_id="once") for _ in range(2)]

    assert first.json == second.json
    assert (504, "session_lost") == first.refusal
    assert first.error["fix"].endswith(HOW_TO_ASK)
    assert ["die"] == face.ran


@pytest.mark.parametrize("headers", [PLAIN, JSON, NDJSON], ids=["plain", "json", "stream"])
async def test_a_drain_that_ends_a_call_with_an_id_says_how_to_ask_for_it(face, headers):
    running = asyncio.create_task(face.type("sleep", "--seconds", "60", headers=headers, call_id="once"))
    await face.has_run("sleep")

    await face.post("/shutdown?drain=0")

    answer = await running
    assert (504, "outcome_unknown") == answer.refusal
    assert answer.error["fix"].endswith(HOW_TO_ASK)
    known = (await face.get("/outcomes/once")).json
    assert ("ended", "unknown", 6) == (known["state"], known["outcome"], known["exit"])


async def test_the_outcome_of_a_call_is_known_while_it_runs_and_afterwards(face):
    running = asyncio.create_task(face.type("sleep", "--seconds", "0.5", call_id="once"))
    await face.has_run("sleep")
    face.clock.now += 2

    during = await face.get("/outcomes/once")
    await running
    after = await face.get("/outcomes/once")

    rest = {"call_id": "once", "app": "fast", "tool": "sleep", "error": None}
    assert {**rest, "state": "running", "outcome": None, "exit": None, "age": 2.0, "result": None} == during.json
    expected = {**rest, "state": "ended", "outcome": "executed", "exit": 0, "age": 0.0, "result": "slept\n"}
    assert (200, expected) == (after.status, after.json)


async def test_the_outcome_of_a_call_that_failed_has_its_error(face):
    called = await face.type("refuse", "--code", "-32603", call_id="once")

    known = (await face.get("/outcomes/once")).json

    assert ("executed", 5, called.error) == (known["outcome"], known["exit"], known["error"])


async def test_an_outcome_that_is_not_known_is_404(face):
    await face.type("echo", "--text", "hi")

    answer = await face.get("/outcomes/once")

    assert (404, "unknown_outcome") == answer.refusal
    assert "unknown" == answer.error["outcome"]


# Status by outcome


async def test_an_error_of_the_server_is_502_and_executed(face):
    answer = await face.call("refuse", code=-32000)

    assert (502, "server_error") == answer.refusal
    assert ("executed", "never") == (answer.error["outcome"], answer.error["retry"])
    assert ["refuse"] == face.ran


async def test_a_server_that_dies_in_a_call_is_504_and_may_have_run(face):
    answer = await face.call("die", status=9)

    assert (504, "session_lost") == answer.refusal
    assert ("unknown", "verify_first") == (answer.error["outcome"], answer.error["retry"])
    assert "status 9" in answer.error["message"]
    assert ["die"] == face.ran


async def test_a_call_that_takes_too_long_is_504_and_is_cancelled_at_the_server(face):
    answer = await face.type("sleep", "--seconds", "60", timeout=0.2)

    assert (504, "call_timed_out") == answer.refusal
    await face.has_run("sleep", "cancel")


async def test_an_app_that_does_not_start_is_503_and_not_executed(face):
    face.configure({"fast": {"command": "/bin/false"}})

    answer = await face.call("echo", text="hi")

    assert (503, "connect_failed") == answer.refusal
    assert "not_executed" == answer.error["outcome"]


@pytest.mark.parametrize(
    ("app", "body", "expected"),
    [
        ("fats", {"tool": "echo", "argv": []}, (404, "unknown_app")),
        ("fast", {"tool": "ecoh", "argv": []}, (404, "unknown_tool")),
        ("fast", {"tool": "echo", "argv": []}, (400, "bad_arguments")),
        ("fast", {"tool": "echo", "argv": ["--txt", "x"]}, (400, "bad_arguments")),
        ("fast", {"tool": "echo", "argv": ["--args", "-"]}, (400, "needs_input")),
        ("fast", {"tool": "echo", "argv": ["--args", "@file"]}, (400, "needs_input")),
        ("shy", {"tool": "echo", "argv": []}, (403, "denied")),
        ("off", {"tool": "echo", "argv": []}, (403, "denied")),
        ("odd", {"tool": "echo", "argv": []}, (400, "bad_config")),
    ],
)
async def test_what_is_refused_is_not_sent(face, app, body, expected):
    shy, off = {**face.fast, "deny": ["echo"]}, {**face.fast, "disabled": True}
    face.configure({"fast": face.fast, "shy": shy, "off": off, "odd": {**face.fast, "env": {"A": "${UNSET}"}}})

    answer = await face.post(f"/tools/call/{app}", body)

    assert expected == answer.refusal
    assert "not_executed" == answer.error["outcome"]
    assert [] == face.ran


# Bodies


def body(**fields: Any) -> bytes:
    """Of a call that is right but for these fields; one of None is left out."""
    whole = {"tool": "echo", "argv": ["--text", "hi"], **fields}
    return json.dumps({name: value for name, value in whole.items() if value is not None}).encode()


def with_text(document: str) -> bytes:
    return b'{"tool": "echo", "arguments": {"text": %b}}' % document.encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not the JSON"),
        (b"{", "not the JSON"),
        (b"\xff", "not the JSON"),
        (body() + b"x", "not the JSON"),
        (b"[]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (with_text("NaN"), "NaN is not JSON"),
        (with_text("-Infinity"), "-Infinity is not JSON"),
        (with_text("1e999"), "beyond floating point"),
        (with_text("9" * 5000), "more than 1000 digits"),
        (with_text("[" * 65 + "]" * 65), "nested more than 64 deep"),
        (b"[" * 200_000, "nested more than 64 deep"),
        (b'{"tool":' + b'{"a":' * 200_000, "nested more than 64 deep"),
        (b'{"tool": "echo", "tool": "die", "argv": []}', "stands twice"),
        (with_text('"\\udcff"'), "half of a surrogate pair"),
        (body(tool="\udcff"), "'tool' is not a string of Unicode"),
        (body(session="\udcff"), "'session' is not a string of Unicode"),
        (body(call_id="\udcff"), "'call_id' is not a string of Unicode"),
        (body(argv=["--text", "\ud800"]), "'argv'"),
        (body(cwd="/\ud800"), "'cwd'"),
        (body(env={"A": "\ud800"}), "'env'"),
        (body(env={"\ud800": "A"}), "'env'"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
async def test_a_body_that_is_not_the_json_we_take_is_refused_and_nothing_runs(face, content, message):
    answer = await face.ask("POST", CALL, content)

    assert (400, "bad_request") == answer.refusal
    assert message in answer.error["message"]
    assert [] == face.ran


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tol": "echo"}, "there is no field 'tol'"),
        ({"Timeout": 1}, "there is no field 'Timeout'"),
        ({"tool": None}, "'tool' is missing"),
        ({"argv": None}, "one of the fields 'arguments' and 'argv'"),
        ({"arguments": {"text": "hi"}}, "one of the fields 'arguments' and 'argv'"),
        ({"tool": 3}, "'tool' is not a string"),
        ({"tool": ""}, "no tool is named: 'tool' is empty"),
        ({"argv": "--text hi"}, "'argv' is not an array of strings"),
        ({"argv": ["--text", 3]}, "'argv' is not an array of strings"),
        ({"argv": None, "arguments": []}, "'arguments' is not an object"),
        ({"argv": None, "arguments": "{}"}, "'arguments' is not an object"),
        ({"cwd": "here"}, "'cwd' is not an absolute path"),
        ({"cwd": "/a\0b"}, "'cwd' is not an absolute path"),
        ({"cwd": ["/"]}, "'cwd' is not an absolute path"),
        ({"env": ["A=1"]}, "'env' is not an object of strings"),
        ({"env": {"A": 1}}, "'env' is not an object of strings"),
        ({"session": 3}, "'session' is not a string"),
        ({"call_id": True}, "'call_id' is not a string"),
        ({"timeout": "30"}, "'timeout' is not a number of seconds"),
        ({"timeout": True}, "'timeout' is not a number of seconds"),
        ({"timeout": 0}, "'timeout' is not a number of seconds"),
        ({"timeout": -1}, "'timeout' is not a number of seconds"),
        ({"timeout": 1e9}, "'timeout' is not a number of seconds"),
        ({"tty": 1}, "'tty' is not true or false"),
    ],
    ids=lambda each: each if isinstance(each, str) else json.dumps(each),
)
async def test_a_field_that_is_unknown_missing_or_of_another_type_is_named(face, fields, message):
    answer = await face.ask("POST", CALL, body(**fields))

    assert (400, "bad_request") == answer.refusal
    assert message in answer.error["message"]
    assert [] == face.ran


async def test_bytes_that_are_not_utf8_are_legal_in_a_folders_name_and_in_the_environment(face):
    folder = face.home / os.fsdecode(b"\xff")
    folder.mkdir()

    answer = await face.ask("POST", CALL, body(cwd=str(folder), env={"\udcff": "\udc80"}), **PLAIN)

    assert (200, b"hi\n") == (answer.status, answer.body)


async def test_bytes_that_are_not_utf8_are_no_argument_of_a_tool(face):
    answer = await face.ask("POST", CALL, body(argv=["--text", "\udcff"]))

    assert (400, "bad_arguments") == answer.refusal
    assert [] == face.ran


async def test_a_body_of_many_megabytes_is_taken(face):
    text = "x" * (8 << 20)

    answer = await face.ask("POST", CALL, body(argv=["--text", text]), **PLAIN)

    assert (200, len(text) + 1) == (answer.status, len(answer.body))


async def test_a_body_above_the_limit_is_413(face):
    answer = await face.ask("POST", CALL, b" " * (MAX_BODY + 1))

    assert (413, "too_large") == answer.refusal
    assert "larger than 64 MiB" in answer.error["message"]


# Routes and methods


@pytest.mark.parametrize(
    "path", ["/", "/nothing", "/Health", "/health/", "/apps/fast", "/tools/call/", "/tools/call/a/b"]
)
async def test_there_are_no_other_routes(face, path):
    assert (404, "unknown_route") == (await face.get(path)).refusal


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/health", "GET"),
        ("DELETE", "/apps", "GET"),
        ("POST", "/apps/fast/ping", "GET"),
        ("GET", "/tools/list/fast", "POST"),
        ("GET", CALL, "POST"),
        ("PUT", "/connections", "GET"),
        ("GET", "/connections/x", "DELETE"),
        ("GET", "/connections/x/restart", "POST"),
        ("POST", "/metrics", "GET"),
        ("GET", "/shutdown", "POST"),
    ],
)
async def test_another_method_is_405_and_says_which_is_allowed(face, method, path, allowed):
    answer = await face.ask(method, path)

    assert (405, "method_not_allowed") == answer.refusal
    assert (allowed, f"use {allowed}") == (answer.headers["Allow"], answer.error["fix"])
    assert not face.stopped.is_set()


@pytest.mark.parametrize("route", ["/tools/call", "/tools/list"])
async def test_no_word_of_ours_is_an_app(face, route):
    answers = {word: await face.post(f"{route}/{word}", {}) for word in RESERVED}

    for word, answer in answers.items():
        assert (404, "unknown_app") == answer.refusal
        assert f"`tasak -- {word}` means an app of that name" == answer.error["fix"]


async def test_an_app_with_a_word_of_ours_for_a_name_is_called_by_who_means_it_exactly(face):
    face.configure({"ping": face.fast})
    call = {"tool": "echo", "argv": ["--text", "hi"]}

    listed = await face.post("/tools/list/ping", {}, {"Tasak-App": "exact"})
    called = await face.post("/tools/call/ping", call, {"Tasak-App": "exact", **PLAIN})

    assert (200, b"hi\n") == (listed.status, called.body)
    assert 404 == (await face.post("/tools/list/ping", {})).status
    assert 404 == (await face.post("/tools/call/ping", call, {"Tasak-App": "yes"})).status


@pytest.mark.parametrize("path", ["/tools/list/fast", CALL])
async def test_a_caller_of_another_version_is_not_served(face, path):
    answer = await face.post(path, {"tool": "echo", "argv": []}, {"Tasak-Version": "0.0.1"})

    assert (503, "version_skew") == answer.refusal
    assert "not_executed" == answer.error["outcome"]


# Expect: 100-continue


@asynccontextmanager
async def heard(
    face: Face, path: str, length: int = 0, **headers: str
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter, str]]:
    """A raw connection on which the head of a call went out, and the first line that came back."""
    headers = {"Content_Type": "application/json", **headers}
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    head = f"POST {path} HTTP/1.1\r\nHost: tasak\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n{more}\r\n"
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_unix_connection(str(face.state.socket))
        writer.write(head.encode())
        try:
            yield reader, writer, (await reader.readline()).decode().strip()
        finally:
            writer.close()
            await writer.wait_closed()


async def rest_of(reader: asyncio.StreamReader) -> Any:
    """The body of the answer whose first line was read."""
    head = await reader.readuntil(b"\r\n\r\n")
    (length,) = [line.split(b":")[1] for line in head.lower().splitlines() if line.startswith(b"content-length:")]
    return json.loads(await reader.readexactly(int(length)))


async def test_the_body_is_asked_for_and_then_the_call_is_made(face):
    content = body()

    async with heard(face, CALL, len(content), Tasak_Version=__version__) as (reader, writer, first):
        blank = await reader.readline()
        writer.write(content)
        second = await reader.readline()
        result = await rest_of(reader)

    assert ("HTTP/1.1 100 Continue", b"\r\n", b"HTTP/1.1 200 OK\r\n") == (first, blank, second)
    assert "hi" == result["content"][0]["text"]


@pytest.mark.parametrize("part", [b"", b" " * 99], ids=["nothing", "almost all"])
async def test_a_body_that_comes_too_late_is_408_and_the_end_of_the_connection(face, monkeypatch, caplog, part):
    monkeypatch.setattr(front_door, "BODY_TIMEOUT", 0.2)
    monkeypatch.setattr(callers, "LINGERING_TIME", 0.1)

    async with heard(face, CALL, 100) as (reader, writer, _), asyncio.timeout(5):
        await reader.readline()
        writer.write(part)
        first = await reader.readline()
        told = await rest_of(reader)
        after = await reader.read()

    assert (b"HTTP/1.1 408 Request Timeout\r\n", "too_slow", b"") == (first, told["error"]["code"], after)
    assert [] == face.ran
    assert [] == [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


async def test_who_goes_away_before_the_body_is_whole_is_not_heard_of_again(face, caplog):
    async with heard(face, CALL, 100) as (_, writer, _):
        writer.write(b"{")

    assert 200 == (await face.call("echo", text="hi")).status
    assert ["echo"] == face.ran
    assert [] == [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    ("kind", "end"),
    [("text/plain", b"\r\n\r\nhi\n"), ("application/x-ndjson", b"}\n\r\n0\r\n\r\n")],
    ids=["whole", "streamed"],
)
async def test_a_connection_for_one_call_ends_with_its_whole_answer(face, kind, end):
    content = body()

    async with heard(face, CALL, len(content), Connection="close", Accept=kind) as (reader, writer, _):
        writer.write(content + b"GET /health HTTP/1.1\r\n\r\n")
        answer = await reader.read()

    assert 1 == answer.count(b"HTTP/1.1 ")
    assert answer.startswith(b"\r\nHTTP/1.1 200 OK\r\n")
    assert b"\r\nConnection: close\r\n" in answer
    assert answer.endswith(end)
    assert ["echo"] == face.ran


async def test_a_caller_of_another_version_is_told_so_instead_of_100(face):
    async with heard(face, CALL, 100, Tasak_Version="0.0.1") as (reader, _, first):
        told = await rest_of(reader)

    assert ("HTTP/1.1 503 Service Unavailable", "version_skew") == (first, told["error"]["code"])


async def test_a_word_of_ours_is_404_instead_of_100(face):
    async with heard(face, "/tools/call/daemon", 100) as (reader, _, first):
        told = await rest_of(reader)

    assert ("HTTP/1.1 404 Not Found", "unknown_app") == (first, told["error"]["code"])


async def test_a_word_of_ours_that_is_meant_exactly_is_asked_for_its_body(face):
    async with heard(face, "/tools/call/daemon", 100, Tasak_App="exact") as (_, _, first):
        assert "HTTP/1.1 100 Continue" == first


async def test_a_draining_daemon_says_so_instead_of_100(face):
    await face.post("/shutdown")

    async with heard(face, CALL, 100) as (reader, _, first):
        told = await rest_of(reader)

    assert ("HTTP/1.1 503 Service Unavailable", "draining") == (first, told["error"]["code"])


# Who gets in


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can be someone else")
@pytest.mark.parametrize(
    "head",
    [
        "GET /health HTTP/1.1\r\nHost: tasak\r\n\r\n",
        f"POST {CALL} HTTP/1.1\r\nHost: tasak\r\nExpect: 100-continue\r\nContent-Length: 100\r\n\r\n",
    ],
    ids=["a request", "a call's head"],
)
async def test_another_user_is_told_nothing_whatever_the_modes_are(face, head):
    for path in (face.home, face.state.root, face.state.socket):
        path.chmod(0o777)
    os.seteuid(NOBODY)
    try:
        reader, writer = await asyncio.open_unix_connection(str(face.state.socket))
    finally:
        os.seteuid(0)

    writer.write(head.encode())
    async with asyncio.timeout(PATIENCE):
        first = await reader.readline()
        told = await rest_of(reader)

    assert (b"HTTP/1.1 403 Forbidden\r\n", "forbidden") == (first, told["error"]["code"])
    writer.close()
    await writer.wait_closed()


# /connections


async def test_connections_show_the_processes_behind_them(face):
    await face.call("echo", text="hi")
    await face.call("echo", text="hi")
    face.clock.now += 5

    connection = await face.connection()

    expected = {"app": "fast", "transport": "stdio", "state": "ready", "session": None, "calls": 2, "in_use": 0}
    assert expected.items() <= connection.items()
    assert (str(face.state.config), str(face.home)) == (connection["file"], connection["directory"])
    assert (5.0, 5.0, 5.0) == (connection["age"], connection["idle"], connection["last_success"])
    (process,) = connection["processes"]
    assert connection["pid"] == process["pid"]
    assert process["rss"] > 0


async def test_no_secret_of_an_app_is_shown(face):
    face.configure({"fast": {**FAST_APP, "env": {"TOKEN": "s3cret"}}})
    await face.call("echo", text="hi")

    assert b"s3cret" not in (await face.get("/connections")).body
    assert b"s3cret" not in (await face.get("/apps/fast/ping?deep=true")).body


async def test_a_connection_is_closed_with_its_process(face):
    await face.call("echo", text="hi")
    connection = await face.connection()

    answer = await face.ask("DELETE", f"/connections/{connection['id']}")

    assert (200, {"closed": connection["id"], "app": "fast"}) == (answer.status, answer.json)
    assert not is_alive(connection["pid"])
    assert [] == (await face.get("/connections")).json["connections"]


async def test_closing_a_connection_breaks_off_the_calls_on_it(face):
    running = asyncio.create_task(face.type("sleep", "--seconds", "60"))
    await face.has_run("sleep")

    await face.ask("DELETE", f"/connections/{(await face.connection())['id']}")

    answer = await running
    assert (504, "session_lost") == answer.refusal
    assert ["sleep"] == face.ran


async def test_a_connection_is_restarted_and_its_next_caller_has_lost_nothing_unsaid(face):
    await face.type("counter")
    before = await face.connection()

    answer = await face.post(f"/connections/{before['id']}/restart")

    assert (200, "ready", True) == (answer.status, answer.json["state"], answer.json["restarted"])
    assert before["pid"] != answer.json["pid"]
    assert not is_alive(before["pid"])
    assert b"1\n" == (await face.type("counter")).body


@pytest.mark.parametrize(("method", "path"), [("DELETE", "/connections/gone"), ("POST", "/connections/gone/restart")])
async def test_an_unknown_connection_is_404(face, method, path):
    assert (404, "unknown_connection") == (await face.ask(method, path)).refusal


# GET /metrics


async def test_metrics_are_prometheus_text(face):
    await face.call("echo", text="hi")
    await face.call("fail", reason="no luck")
    await face.call("die", status=1)

    answer = await face.get("/metrics")

    assert "text/plain; version=0.0.4; charset=utf-8" == answer.headers["Content-Type"]
    lines = answer.body.decode().splitlines()
    for end in ("ok", "tool_error", "unknown"):
        assert f'tasak_requests_total{{app="fast",end="{end}",operation="call"}} 1.0' in lines
    assert f"tasak_uptime_seconds {UPTIME}" in lines
    assert 'tasak_sessions_total{app="fast",mark="new"} 1.0' in lines


async def test_metrics_are_json_for_who_accepts_that(face):
    await face.call("echo", text="hi")

    told = (await face.get("/metrics", **JSON)).json

    requests = {"labels": {"app": "fast", "operation": "call", "end": "ok"}, "value": 1.0}
    assert [requests] == told["tasak_requests_total"]
    assert [{"labels": {}, "value": UPTIME}] == told["tasak_uptime_seconds"]
    assert [{"labels": {"state": "ready"}, "value": 1.0}] == told["tasak_connections"]


async def test_metrics_count_the_tasks_of_the_loop(face):
    async def tasks() -> float:
        return (await face.get("/metrics", **JSON)).json["tasak_tasks"][0]["value"]

    before = await tasks()
    more = [asyncio.create_task(asyncio.sleep(PATIENCE)) for _ in range(10)]

    assert before + 10 == await tasks()
    for task in more:
        task.cancel()


# POST /shutdown


async def test_a_shutdown_lets_running_calls_end_and_leaves_no_process(face):
    running = asyncio.create_task(face.type("sleep", "--seconds", "0.3"))
    await face.has_run("sleep")
    pid = (await face.connection())["pid"]

    answer = await face.post("/shutdown")

    assert (200, {"stopped": True, "survivors": []}) == (answer.status, answer.json)
    assert b"slept\n" == (await running).body
    assert not is_alive(pid)
    assert face.stopped.is_set()


@pytest.mark.parametrize("headers", [PLAIN, JSON, NDJSON])
async def test_a_call_that_outlives_the_drain_is_ended_as_outcome_unknown(face, headers):
    running = asyncio.create_task(face.type("sleep", "--seconds", "60", headers=headers))
    await face.has_run("sleep")
    pid = (await face.connection())["pid"]

    stopped = await face.post("/shutdown?drain=0")

    answer = await running
    assert (504, "outcome_unknown") == answer.refusal
    assert [] == stopped.json["survivors"]
    assert not is_alive(pid)


async def test_a_stream_that_outlives_the_drain_says_so_on_its_last_line(face):
    body = {"tool": "progress", "arguments": {"steps": 1000, "seconds": 0.1}}

    async with face.client.post(CALL, json=body, headers=NDJSON) as response:
        await response.content.readline()
        await face.post("/shutdown?drain=0")
        *_, last = (await response.content.read()).splitlines()

    assert "outcome_unknown" == json.loads(last)["error"]["code"]


async def test_a_draining_daemon_takes_no_new_work(face):
    running = asyncio.create_task(face.type("sleep", "--seconds", "1"))
    await face.has_run("sleep")
    stopping = asyncio.create_task(face.post("/shutdown"))
    await until(lambda: face.service.is_draining)

    called = await face.call("echo", text="hi")
    listed = await face.post("/tools/list/fast")
    pinged = await face.get("/apps/fast/ping?start=true")

    for answer in (called, listed, pinged):
        assert (503, "draining") == answer.refusal
        assert "not_executed" == answer.error["outcome"]
    assert "draining" == (await face.get("/health")).json["status"]
    await stopping
    assert b"slept\n" == (await running).body
    assert ["sleep"] == face.ran


async def test_a_shutdown_goes_on_when_whoever_asked_for_it_is_gone(face):
    running = asyncio.create_task(face.type("sleep", "--seconds", "0.5"))
    await face.has_run("sleep")
    stopping = asyncio.create_task(face.post("/shutdown"))
    await until(lambda: face.service.is_draining)

    stopping.cancel()

    assert b"slept\n" == (await running).body
    await asyncio.wait_for(face.stopped.wait(), PATIENCE)
    assert 0 == (await face.get("/health")).json["connections"]


@pytest.mark.parametrize("drain", ["soon", "-1", "nan", "inf", "601", ""])
async def test_a_drain_is_a_number_of_seconds(face, drain):
    assert (400, "bad_request") == (await face.post(f"/shutdown?drain={drain}")).refusal
    assert (False, False) == (face.stopped.is_set(), face.service.is_draining)
