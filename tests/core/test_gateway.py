"""What every road into TASAK shares: notices, pings, reports, counts, and answers as bytes."""

import asyncio
import json
import os
import signal
from typing import Any

import psutil
import pytest

from tasak.core.reply import as_reply
from tasak.core.tool_service import Answer
from tasak.core.trust import TrustBook
from tasak.errors import (
    BadArguments,
    BadConfig,
    CallTimedOut,
    ConnectFailed,
    Denied,
    ServerError,
    SessionLost,
    UnknownApp,
    UnknownConnection,
)
from tasak.request import Reply, Request
from tests.core.pool import Pool, soon, until

ODD_TEXT = "ż 🤷🏽 \x1b[2J\u202e\x9b\t."
NO_PING = "def ping(message): refuse(message, -32603, 'not now')"


def request(pool: Pool, app: str = "fast", tool: str = "", **more: Any) -> Request:
    return Request(app=app, tool=tool, **{"cwd": pool.root, "env": {"PATH": "/usr/bin:/bin"}, **more})


async def call(pool: Pool, tool: str, app: str = "fast", *, wants_json: bool = False, **arguments: Any) -> Reply:
    return await soon(pool.gateway.call(request(pool, app, tool, arguments=arguments, wants_json=wants_json)))


async def ping(pool: Pool, app: str = "fast", *, deep: bool = False, start: bool = False) -> dict[str, Any]:
    return await soon(pool.gateway.ping(request(pool, app), deep=deep, start=start))


# Notices


async def test_a_notice_is_given_once(pool):
    pool.define(timeout=9)

    first, second = await call(pool, "counter"), await call(pool, "counter")

    (notice,) = first.notices
    assert "'timeout' (write `call_timeout:`, in seconds)" in notice
    assert () == second.notices
    assert [notice] == pool.gateway.notices


async def test_a_notice_that_is_new_is_given_alone(pool):
    pool.define(timeout=9)
    await call(pool, "counter")

    broken = pool.root / "project" / "tasak.yaml"
    broken.parent.mkdir()
    broken.write_text("apps: [")
    broken.chmod(0o600)
    reply = await soon(pool.gateway.call(request(pool, tool="counter", arguments={}, cwd=broken.parent)))

    (notice,) = reply.notices
    assert notice.startswith(f"{broken}: ")
    assert notice.endswith("(passed over)")
    assert 2 == len(pool.gateway.notices)


async def test_a_notice_that_is_mended_is_forgotten(pool):
    pool.define(timeout=9)
    await call(pool, "counter")

    pool.define()
    await call(pool, "counter")

    assert [] == pool.gateway.notices


async def test_lost_state_is_told_with_every_session_that_replaces_one(pool):
    pool.define()
    for _ in range(2):
        with pytest.raises(SessionLost):
            await call(pool, "die", status=1)

        reply = await call(pool, "counter")

        assert "restarted" == reply.mark
        assert ("fast: this is a fresh session; the state of the earlier one is gone",) == reply.notices


# Pinging


async def test_a_shallow_ping_opens_nothing(pool):
    pool.define()

    answer = await ping(pool)

    assert {"app": "fast", "ok": False, "connections": []} == answer
    assert [] == pool.processes()


async def test_a_shallow_ping_tells_what_the_pool_knows_without_asking_the_server(pool):
    pool.script("")
    await call(pool, "give", "scripted")
    pool.clock.advance(5)

    answer = await ping(pool, "scripted")

    (found,) = answer["connections"]
    assert answer["ok"]
    assert ("ready", 5.0, 5.0, 5.0, 1, 0) == tuple(
        found[key] for key in ("state", "age", "idle", "last_success", "calls", "in_use")
    )
    assert "ping" not in pool.heard()


async def test_a_deep_ping_asks_the_server(pool):
    pool.script("")
    await call(pool, "give", "scripted")
    pool.clock.advance(5)

    answer = await ping(pool, "scripted", deep=True)

    (found,) = answer["connections"]
    assert answer["ok"]
    assert found["ok"]
    assert 0 < found["latency_ms"] < 20_000
    assert {"name": "scripted", "version": "1"} == found["server_info"]
    assert "2025-11-25" == found["protocol_version"]
    assert 0.0 == found["last_success"]
    assert 1 == pool.heard().count("ping")


async def test_a_deep_ping_that_fails_says_why_and_what_the_server_said(pool):
    pool.script(NO_PING + "\ndef tools_call(message): complain('tired'); answer(message, content=[])")
    await call(pool, "give", "scripted")

    answer = await ping(pool, "scripted", deep=True)

    (found,) = answer["connections"]
    assert not answer["ok"]
    assert ("ready", False, None) == (found["state"], found["ok"], found["latency_ms"])
    assert "not now (JSON-RPC error -32603)" == found["ping_error"]
    assert ["tired"] == found["stderr"]


async def test_a_ping_tells_of_the_last_call_that_was_lost(pool, caplog):
    pool.define()
    with pytest.raises(CallTimedOut):
        await soon(pool.gateway.call(request(pool, tool="sleep", arguments={"seconds": 60}, timeout=0.3)))
    pool.clock.advance(5)
    (losing,) = pool.gateway.lost
    await call(pool, "counter")

    answer = await ping(pool)

    (found,) = answer["connections"]
    assert ("fast", 5.0) == (losing["app"], losing["last_loss"])
    assert [] == pool.gateway.lost
    lost = "fast sleep: no answer to tools/call within 0.3 s"
    assert answer["ok"]
    assert (lost, 5.0, 0.0) == tuple(found[key] for key in ("last_error", "last_loss", "last_success"))
    assert [lost] == [record.message for record in caplog.records if record.levelname == "WARNING"]


async def test_a_server_that_dies_in_a_call_is_named_in_the_log_without_its_words(pool, caplog):
    pool.script("def tools_call(message): complain('token 12345'); sys.exit(3)")
    with pytest.raises(SessionLost) as raised:
        await call(pool, "give", "scripted")

    assert "token 12345" in raised.value.message
    assert [raised.value.message.partition("\n")[0]] == [
        record.message for record in caplog.records if record.levelname == "WARNING"
    ]


async def test_an_app_that_does_not_connect_is_named_in_the_log_without_its_words(pool, caplog):
    pool.shell("echo token 12345 >&2; exit 3", init_attempts=1)
    with pytest.raises(ConnectFailed):
        await call(pool, "give", "shell")

    (record,) = caplog.records
    assert ("tasak.apps.shell", "WARNING") == (record.name, record.levelname)
    assert "not connected: shell: sh exited with status 3" == record.message


async def test_a_session_that_ends_by_itself_is_told_in_the_log(pool, caplog):
    caplog.set_level("INFO")
    pool.define()
    await call(pool, "counter")
    (found,) = (await ping(pool))["connections"]

    os.kill(found["pid"], signal.SIGKILL)

    await until(lambda: f"connection {found['id']} has ended by itself" in caplog.messages)


async def test_a_ping_opens_a_connection_where_it_is_asked_to(pool):
    pool.define()

    answer = await ping(pool, start=True, deep=True)

    assert answer["ok"]
    assert "warm" == (await call(pool, "counter")).mark


async def test_a_ping_that_cannot_open_one_raises_why(pool):
    pool.shell("exit 3")

    with pytest.raises(ConnectFailed):
        await ping(pool, "shell", start=True)


async def test_a_ping_shows_an_app_that_fails_to_connect(pool):
    pool.shell("exit 3", init_attempts=1)
    for _ in range(2):
        with pytest.raises(ConnectFailed):
            await call(pool, "give", "shell")

    answer = await ping(pool, "shell")

    (found,) = answer["connections"]
    assert not answer["ok"]
    assert ("backoff", 2, 0.1, "shell: sh exited with status 3") == tuple(
        found[key] for key in ("state", "failures", "next_attempt", "last_error")
    )


async def test_a_ping_of_an_app_that_has_recovered_shows_no_failure(pool):
    pool.script("if os.path.exists('broken'): sys.exit(3)", init_attempts=1)
    (pool.root / "broken").touch()
    with pytest.raises(ConnectFailed):
        await call(pool, "give", "scripted")
    (pool.root / "broken").unlink()
    await call(pool, "give", "scripted")

    answer = await ping(pool, "scripted")

    assert ["ready"] == [each["state"] for each in answer["connections"]]


async def test_what_is_wrong_with_an_app_that_has_left_the_config_is_not_told(pool):
    pool.configure(timeout=9)
    await call(pool, "counter")
    assert 1 == len(pool.gateway.notices)

    pool.forget("fast")

    assert [] == pool.gateway.notices


async def fails(pool: Pool, name: str = "shell", **keys: Any) -> None:
    pool.shell("exit 3", name, **keys)
    with pytest.raises(ConnectFailed):
        await soon(pool.gateway.call(request(pool, name, "give", arguments={}, cwd=keys.get("folder", pool.root))))


def failing(pool: Pool) -> list[str]:
    return [each["app"] for each in pool.gateway.failing]


async def test_an_app_that_has_left_the_config_fails_no_more(pool):
    await fails(pool)
    assert ["shell"] == failing(pool)

    pool.forget("shell")

    assert [] == failing(pool)
    assert [] == await soon(pool.gateway.connections())


async def test_an_app_whose_file_is_gone_fails_no_more(pool):
    (pool.root / "project").mkdir()
    await fails(pool, folder=pool.root / "project")
    assert ["shell"] == failing(pool)

    (pool.root / "project" / "tasak.yaml").unlink()

    assert [] == failing(pool)


async def test_an_app_that_was_mended_in_the_config_fails_no_more(pool):
    await fails(pool)

    pool.define("shell")

    assert [] == failing(pool)


@pytest.mark.parametrize("name", ["other", "shell"])
async def test_an_app_goes_on_failing_whatever_else_happens_to_its_file(pool, name):
    await fails(pool)

    if name == "shell":
        pool.state.config.write_text("apps: {shell: [}")
    else:
        pool.define(name)

    assert ["shell"] == failing(pool)


async def test_a_failure_is_old_after_an_hour_without_another(pool):
    await fails(pool)

    pool.clock.advance(3599)
    pool.manager.sweep()
    late = failing(pool)
    pool.clock.advance(1)
    pool.manager.sweep()

    assert (["shell"], []) == (late, failing(pool))


async def test_a_ping_is_of_the_callers_own_app(pool):
    pool.define()
    await call(pool, "counter")
    pool.define("other")
    (pool.root / "project").mkdir()
    pool.configure(folder=pool.root / "project")
    TrustBook(pool.state).trust(pool.root / "project")

    elsewhere = await soon(pool.gateway.ping(request(pool, cwd=pool.root / "project"), deep=False, start=False))

    assert [] == (await ping(pool, "other"))["connections"]
    assert [] == elsewhere["connections"]


async def test_a_ping_shows_no_failure_of_another_projects_app(pool):
    (pool.root / "project").mkdir()
    pool.shell("exit 3", "db", folder=pool.root / "project")
    with pytest.raises(ConnectFailed):
        await soon(pool.gateway.call(request(pool, "db", "give", arguments={}, cwd=pool.root / "project")))
    pool.define("db")
    await call(pool, "counter", "db")

    answer = await ping(pool, "db")

    assert ["ready"] == [each["state"] for each in answer["connections"]]


async def test_a_ping_needs_no_value_of_those_who_call(pool):
    pool.configure(env={"TOKEN": "${TOKEN}"})
    await soon(pool.gateway.call(request(pool, tool="counter", arguments={}, env={"TOKEN": "s3cret"})))

    answer = await soon(pool.gateway.ping(request(pool, env={}), deep=True, start=True))

    assert answer["ok"]


async def test_a_disabled_app_cannot_be_pinged(pool):
    pool.configure(disabled=True)

    with pytest.raises(Denied):
        await ping(pool)


async def test_an_unknown_app_cannot_be_pinged(pool):
    pool.define()

    with pytest.raises(UnknownApp) as raised:
        await ping(pool, "fsat")

    assert "did you mean 'fast'?" == raised.value.fix


# The pool, as it is reported


async def test_the_report_has_every_connection_with_its_processes(pool):
    pool.define(cwd="caller")
    await call(pool, "counter")
    await soon(pool.gateway.call(request(pool, tool="counter", arguments={}, session="mine")))

    shared, private = await soon(pool.gateway.connections())

    assert (None, "mine") == (shared["session"], private["session"])
    assert str(pool.root) == shared["directory"]
    assert str(pool.state.config) == shared["file"]
    (process,) = shared["processes"]
    assert shared["pid"] == process["pid"]
    assert process["name"].startswith("python")
    assert 1_000_000 < process["rss"]


async def test_the_report_has_the_children_of_a_server_too(pool):
    pool.script("import subprocess\nchild = subprocess.Popen(['cat'], stdin=subprocess.PIPE)")
    await call(pool, "give", "scripted")

    (found,) = await soon(pool.gateway.connections())

    assert ["cat"] == [each["name"] for each in found["processes"][1:]]


async def test_no_value_of_the_callers_is_in_a_report(pool):
    pool.configure(env={"TOKEN": "${TOKEN}"}, args=["${TOKEN}"])
    secret = request(pool, tool="echo", arguments={"text": "s3cret"}, env={"TOKEN": "s3cret"})
    await soon(pool.gateway.call(secret))

    reports = [
        await soon(pool.gateway.connections()),
        await soon(pool.gateway.ping(secret, deep=True, start=False)),
        pool.gateway.metrics.as_json(),
    ]

    assert "s3cret" not in json.dumps(reports)


async def test_the_report_has_the_apps_that_do_not_connect(pool):
    pool.shell("exit 3")
    with pytest.raises(ConnectFailed):
        await call(pool, "give", "shell")

    (found,) = await soon(pool.gateway.connections())

    assert ("shell", "backoff", 1) == (found["app"], found["state"], found["failures"])


async def test_the_list_of_apps_has_the_state_of_each(pool):
    pool.configure("warm")
    pool.configure("idle", description="does little")
    pool.configure("off", disabled=True)
    pool.configure("wrong", parallel=0)
    await call(pool, "counter", "warm")
    pool.shell("exit 3", "failing")
    with pytest.raises(ConnectFailed):
        await call(pool, "give", "failing")

    described = pool.gateway.describe_apps(pool.root, {"PATH": "/bin"})

    apps = {app["name"]: app for app in described["apps"]}
    expected = {
        "demo": "idle",
        "failing": "backoff",
        "idle": "idle",
        "off": "disabled",
        "warm": "ready",
        "wrong": "broken",
    }
    assert expected == {name: app["state"] for name, app in apps.items()}
    assert "does little" == apps["idle"]["description"]
    assert "'parallel'" in apps["wrong"]["error"]


async def test_an_app_that_was_edited_has_the_state_of_the_session_that_serves_and_not_of_the_one_that_ends(pool):
    ends_at_gate = "import atexit; atexit.register(wait_at_gate)"
    pool.script(ends_at_gate)
    await call(pool, "give", "scripted")
    pool.script(ends_at_gate, max_age=9999)
    await call(pool, "give", "scripted")
    await until(lambda: ["ready", "closing"] == [str(each.state) for each in pool.manager])

    described = pool.gateway.describe_apps(pool.root, {})

    assert "ready" == {app["name"]: app["state"] for app in described["apps"]}["scripted"]
    pool.gate.let_one_pass()
    pool.gate.let_one_pass()


# Ending connections


async def test_a_connection_that_is_closed_takes_its_process_with_it(pool):
    pool.define()
    await call(pool, "counter")
    (connection,) = pool.manager
    pid = connection.session.pid

    app = await soon(pool.gateway.close_connection(connection.id))

    assert "fast" == app.name
    assert not psutil.pid_exists(pid)
    assert [] == await soon(pool.gateway.connections())


async def test_a_connection_that_is_restarted_is_another_one(pool):
    pool.define()
    await call(pool, "counter")
    (before,) = pool.manager

    report = await soon(pool.gateway.restart_connection(before.id))

    assert ("ready", True) == (report["state"], report["restarted"])
    assert before.id != report["id"]
    assert b"1\n" == (await call(pool, "counter")).body


async def test_a_connection_of_an_edited_app_is_not_opened_again_and_the_newer_one_keeps_its_state(pool):
    pool.define()
    running = asyncio.create_task(pool.gateway.call(request(pool, tool="sleep", arguments={"seconds": 1})))
    await until(lambda: any(each.calls for each in pool.manager))
    (before,) = pool.manager
    pool.define(max_age=9999)
    await call(pool, "counter")

    with pytest.raises(BadConfig, match="the config says something else of it"):
        await soon(pool.gateway.restart_connection(before.id))

    assert b"2\n" == (await call(pool, "counter")).body
    assert 0 == (await soon(running)).exit_status


async def test_a_connection_of_an_app_that_is_gone_from_the_config_is_not_opened_again(pool):
    pool.define()
    await call(pool, "counter")
    (before,) = pool.manager
    pool.forget("fast")

    with pytest.raises(BadConfig, match="the config says something else of it"):
        await soon(pool.gateway.restart_connection(before.id))

    assert [before] == list(pool.manager)


@pytest.mark.parametrize("verb", ["close_connection", "restart_connection"])
async def test_a_connection_that_is_not_there_is_named(pool, verb):
    with pytest.raises(UnknownConnection, match="there is no connection 'deadbeef'"):
        await soon(getattr(pool.gateway, verb)("deadbeef"))


async def test_shutting_down_tells_that_nothing_survived(pool):
    pool.define()
    await call(pool, "counter")

    assert [] == await soon(pool.gateway.shut_down())
    assert [] == pool.processes()


# Counting


async def test_every_call_is_counted_by_how_it_ended(pool):
    pool.define(deny=["where"])
    for tool, arguments, failure in (
        ("counter", {}, None),
        ("counter", {}, None),
        ("fail", {"reason": "x"}, None),
        ("refuse", {"code": -32603}, ServerError),
        ("die", {"status": 1}, SessionLost),
        ("echo", {"txt": "x"}, BadArguments),
        ("where", {}, Denied),
    ):
        if failure is None:
            await call(pool, tool, **arguments)
        else:
            with pytest.raises(failure):
                await call(pool, tool, **arguments)

    counted = {
        end: pool.counted("tasak_requests_total", app="fast", operation="call", end=end)
        for end in ("ok", "tool_error", "executed", "unknown", "refused", "not_executed")
    }
    expected = {"ok": 2, "tool_error": 1, "executed": 1, "unknown": 1, "refused": 1, "not_executed": 1}
    assert expected == counted
    assert 7 == pool.counted("tasak_request_seconds_count", app="fast", operation="call")


async def test_a_call_that_its_caller_gave_up_is_counted_as_unknown(pool):
    pool.define(env={"EXEC": str(pool.witness)})
    caller = asyncio.create_task(call(pool, "sleep", seconds=60))
    await until(pool.executed)

    caller.cancel()
    await soon(asyncio.wait([caller]))

    assert 1 == pool.counted("tasak_requests_total", app="fast", operation="call", end="unknown")


async def test_sessions_lists_and_connections_are_counted_by_kind(pool):
    pool.define()
    await call(pool, "counter")
    await call(pool, "counter")
    for _ in range(2):
        await soon(pool.gateway.list_tools(request(pool)))
    await soon(pool.gateway.list_tools(request(pool), refresh=True))

    pool.gateway.count_connections()

    assert 1 == pool.counted("tasak_sessions_total", app="fast", mark="new")
    assert 1 == pool.counted("tasak_sessions_total", app="fast", mark="warm")
    assert 2 == pool.counted("tasak_tool_lists_total", app="fast", source="cache")
    assert 1 == pool.counted("tasak_tool_lists_total", app="fast", source="server")
    assert 1 == pool.counted("tasak_connections", state="ready")


async def test_metrics_are_the_same_as_text_and_as_json(pool):
    pool.define()
    await call(pool, "counter")

    text = pool.gateway.metrics.as_text().decode()

    assert 'tasak_requests_total{app="fast",end="ok",operation="call"} 1.0' in text.splitlines()
    as_json = {
        (name, *sorted(sample["labels"].items())): sample["value"]
        for name, samples in pool.gateway.metrics.as_json().items()
        for sample in samples
    }
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert len(lines) == len(as_json)
    assert [float(line.rpartition(" ")[2]) for line in lines] == pytest.approx(list(as_json.values()))


# Answers as bytes


def result(text: str, *, is_error: bool = False) -> Answer:
    return Answer(mark="warm", result={"content": [{"type": "text", "text": text}], "isError": is_error})


def asked(*, wants_json: bool = False, is_terminal: bool = False) -> Request:
    return Request(app="fast", cwd=None, env={}, tool="echo", wants_json=wants_json, is_terminal=is_terminal)


@pytest.mark.parametrize(("is_error", "status"), [(False, 0), (True, 5)])
def test_a_text_is_printed_as_it_is(is_error, status):
    reply = as_reply(result(ODD_TEXT, is_error=is_error), asked(), ["a notice"])

    assert f"{ODD_TEXT}\n".encode() == reply.body
    assert (status, "warm", ["a notice"]) == (reply.exit_status, reply.mark, reply.notices)


@pytest.mark.parametrize(("is_error", "status"), [(False, 0), (True, 5)])
def test_json_is_one_document_with_the_whole_result(is_error, status):
    answer = result(ODD_TEXT, is_error=is_error)

    reply = as_reply(answer, asked(wants_json=True), ())

    assert answer.result == json.loads(reply.body)
    assert (status, 1, b"\n") == (reply.exit_status, reply.body.count(b"\n"), reply.body[-1:])


def test_nothing_in_an_answer_acts_on_a_terminal():
    reply = as_reply(result(ODD_TEXT), asked(is_terminal=True), ())

    assert "ż 🤷🏽 \\x1b[2J\\u202e\\x9b\t.\n" == reply.body.decode()


def test_json_for_a_terminal_says_the_same_and_acts_on_nothing():
    answer = result(ODD_TEXT)

    reply = as_reply(answer, asked(wants_json=True, is_terminal=True), ())

    assert answer.result == json.loads(reply.body)
    assert not {"\x1b", "\x9b", "\u202e"} & set(reply.body.decode())


def test_help_is_text_or_json_and_no_failure():
    answer = Answer(mark="new", help="The tool echo.\n")

    as_text, as_json = as_reply(answer, asked(), ()), as_reply(answer, asked(wants_json=True), ())

    assert (b"The tool echo.\n", 0) == (as_text.body, as_text.exit_status)
    assert {"help": "The tool echo.\n"} == json.loads(as_json.body)


def test_an_answer_that_json_cannot_say_is_the_servers_error():
    answer = Answer(mark="warm", result={"content": [], "structuredContent": float("nan")})

    with pytest.raises(ServerError, match="fast echo: its answer is not JSON"):
        as_reply(answer, asked(wants_json=True), ())


async def test_the_answer_of_a_real_server_comes_out_byte_for_byte(pool):
    pool.define()

    replies = [await call(pool, "echo", text=ODD_TEXT, wants_json=wants_json) for wants_json in (False, True)]

    assert f"{ODD_TEXT}\n".encode() == replies[0].body
    assert ODD_TEXT == json.loads(replies[1].body)["content"][0]["text"]
