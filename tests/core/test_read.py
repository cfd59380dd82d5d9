"""A caller who may only read: what is called for them, what is refused, and that nothing was sent then."""

from pathlib import Path
from typing import Any

import pytest

from tasak.core.trust import TrustBook
from tasak.errors import BadArguments, Denied, UnknownTool, Untrusted
from tasak.request import Reply, Request
from tests.core.pool import Pool, soon

LOOK = {"look": {"read_only": True}}

# Tools that say of themselves whether they only read; whatever else they say, they are heard to be called.
ANNOTATED = """
def tool(name, **annotations):
    return {"name": name, "inputSchema": {"type": "object"}, "annotations": annotations}

LISTED = [
    tool("look", readOnlyHint=True),
    tool("pay", readOnlyHint=False),
    tool("says_nothing"),
    tool("says_text", readOnlyHint="true"),
    {"name": "has_none", "inputSchema": {"type": "object"}},
    {"name": "has_a_list", "inputSchema": {"type": "object"}, "annotations": ["readOnlyHint"]},
]

def tools_list(message):
    answer(message, tools=LISTED)
"""
# Read-only when it is asked for the first time, and never again.
TURNS = """
def tools_list(message):
    hear("list")
    with open(os.environ["HEARD"]) as file:
        is_first = file.read().split().count("list") == 1
    tool = {"name": "look", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": is_first}}
    answer(message, tools=[tool])
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


def request(pool: Pool, app: str, tool: str, *, read_only: bool = True, **more: Any) -> Request:
    given = {"cwd": pool.root, "env": {"PATH": "/usr/bin:/bin"}, "arguments": {}, **more}
    return Request(app=app, tool=tool, read_only=read_only, **given)


async def read(pool: Pool, app: str, tool: str, **more: Any) -> Reply:
    return await soon(pool.gateway.call(request(pool, app, tool, **more)))


async def readable(pool: Pool, app: str, **more: Any) -> list[str]:
    listed = await soon(pool.gateway.list_tools(request(pool, app, "", **more)))
    return [tool["name"] for tool in listed.tools]


def calls(pool: Pool) -> int:
    return pool.heard().count("tools/call")


# ── whose word counts ────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_the_user_declares_read_only_is_called(pool):
    pool.script(ANNOTATED, tools={"pay": {"read_only": True}})

    assert 0 == (await read(pool, "scripted", "pay")).exit_status


async def test_anything_else_is_denied_and_its_server_not_even_started(pool):
    app = pool.script(ANNOTATED, tools={"pay": {"retry": "safe"}, **LOOK})

    for tool in ("pay", "has_none", "gone"):
        with pytest.raises(Denied) as raised:
            await read(pool, "scripted", tool)

        why = f"scripted {tool}: it is not declared read-only, and `tasak read` calls nothing else"
        fix = (
            f"if it changes nothing: under scripted in {app.file}, write `tools: {{{tool}: {{read_only: true}}}}`"
            ", or `trusted: true` to believe what the server says of its tools"
        )
        assert (why, fix) == (raised.value.message, raised.value.fix)
    assert [] == pool.heard()


async def test_the_words_of_a_server_that_is_not_trusted_count_for_nothing(pool):
    pool.script(ANNOTATED)

    with pytest.raises(Denied, match="not declared read-only"):
        await read(pool, "scripted", "look")

    assert [] == pool.heard()


async def test_a_trusted_servers_word_counts(pool):
    pool.script(ANNOTATED, trusted=True)

    assert 0 == (await read(pool, "scripted", "look")).exit_status
    assert 1 == calls(pool)


@pytest.mark.parametrize("tool", ["pay", "says_nothing", "says_text", "has_none", "has_a_list"])
async def test_a_trusted_server_has_to_say_it_plainly(pool, tool):
    pool.script(ANNOTATED, trusted=True)

    with pytest.raises(Denied, match="not declared read-only"):
        await read(pool, "scripted", tool)

    assert 0 == calls(pool)


async def test_the_users_no_stands_above_a_trusted_servers_yes(pool):
    app = pool.script(ANNOTATED, trusted=True, tools={"look": {"read_only": False}})

    with pytest.raises(Denied) as raised:
        await read(pool, "scripted", "look")

    assert f"the config says so: see read_only of look under scripted in {app.file}" == raised.value.fix
    assert [] == pool.heard()


async def test_a_trusted_servers_word_is_asked_for_anew_each_time(pool):
    pool.script(TURNS, trusted=True)
    await read(pool, "scripted", "look")

    with pytest.raises(Denied):
        await read(pool, "scripted", "look")

    assert 1 == calls(pool)


async def test_the_users_own_word_needs_no_new_list(pool):
    pool.script(ANNOTATED, tools=LOOK)
    for _ in range(3):
        await read(pool, "scripted", "look")

    assert 1 == pool.heard().count("tools/list")


async def test_deny_wins(pool):
    pool.script(ANNOTATED, tools=LOOK, deny=["look"])

    with pytest.raises(Denied, match="the config does not allow look"):
        await read(pool, "scripted", "look")


async def test_a_trusted_server_that_has_no_such_tool_is_told_as_ever(pool):
    pool.script(ANNOTATED, trusted=True)

    with pytest.raises(UnknownTool):
        await read(pool, "scripted", "loook")


async def test_the_list_has_what_may_be_called(pool):
    pool.script(ANNOTATED, trusted=True, deny=["says_text"], tools={
        "pay": {"read_only": True}, "says_text": {"read_only": True}, "has_none": {"read_only": False},
    })  # fmt: skip

    assert ["look", "pay"] == await readable(pool, "scripted")
    assert 5 == len(await readable(pool, "scripted", read_only=False))


async def test_help_is_for_what_may_be_called(pool):
    pool.script(ANNOTATED, tools=LOOK)

    assert b"Example:" in (await read(pool, "scripted", "look", arguments=None, argv=["--help"])).body
    with pytest.raises(Denied):
        await read(pool, "scripted", "pay", arguments=None, argv=["--help"])


async def test_an_id_of_a_call_that_was_none_stands_for_no_read(pool):
    pool.script(ANNOTATED, tools=LOOK)
    await read(pool, "scripted", "look", read_only=False, call_id="one")

    with pytest.raises(BadArguments, match="stands for another call"):
        await read(pool, "scripted", "look", call_id="one")


async def test_a_plain_call_is_none_of_this(pool):
    pool.script(ANNOTATED)

    assert 0 == (await read(pool, "scripted", "pay", read_only=False)).exit_status


# ── whose file counts ────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_projects_file_has_no_say_before_it_is_trusted_and_none_after_it_has_changed(pool, project):
    pool.configure(folder=project, tools={"counter": {"read_only": True}})
    file = project / "tasak.yaml"
    book = TrustBook(pool.state)

    with pytest.raises(Untrusted) as never:
        await read(pool, "fast", "counter", cwd=project)
    assert [] == pool.processes()
    book.trust(project)
    assert 0 == (await read(pool, "fast", "counter", cwd=project)).exit_status
    pool.configure(folder=project, tools={"counter": {"read_only": True}, "die": {"read_only": True}})
    with pytest.raises(Untrusted) as changed:
        await read(pool, "fast", "die", cwd=project)
    book.trust(project)
    book.revoke(project)
    with pytest.raises(Untrusted):
        await read(pool, "fast", "counter", cwd=project)

    assert f"fast: it stands in {file}, which is not trusted, and `tasak read` uses no such app" == never.value.message
    assert f"read that file, and if all that it says shall hold: tasak trust {project}" == never.value.fix
    assert "which has changed since you trusted it" in changed.value.message


async def test_its_list_is_not_shown_either(pool, project):
    pool.configure(folder=project, tools={"counter": {"read_only": True}})

    with pytest.raises(Untrusted):
        await readable(pool, "fast", cwd=project)

    assert [] == pool.processes()


async def test_a_file_that_the_environment_names_has_no_say_before_it_is_trusted(pool, project):
    pool.configure(folder=project, tools={"counter": {"read_only": True}})
    file = (project / "tasak.yaml").rename(project / "other.yaml")
    env = {"PATH": "/usr/bin:/bin", "TASAK_CONFIG": str(file)}

    with pytest.raises(Untrusted) as raised:
        await read(pool, "fast", "counter", env=env)
    TrustBook(pool.state).trust(file)

    assert raised.value.fix is not None
    assert raised.value.fix.endswith(f"tasak trust {file}")
    assert 0 == (await read(pool, "fast", "counter", env=env)).exit_status


async def test_the_users_own_file_counts_by_that_road_too(pool):
    pool.configure(tools={"counter": {"read_only": True}})
    env = {"PATH": "/usr/bin:/bin", "TASAK_CONFIG": str(pool.state.config)}

    assert 0 == (await read(pool, "fast", "counter", env=env)).exit_status


@pytest.mark.slow
async def test_of_the_built_in_app_what_keeps_no_state_is_read_only(pool):
    assert ["add", "echo"] == await readable(pool, "demo")
    with pytest.raises(Denied) as raised:
        await read(pool, "demo", "counter")

    assert "under demo in a config of your own" in (raised.value.fix or "")


# ── apps that are made of others ─────────────────────────────────────────────────────────────────────────────────


def step(tool: str, app: str = "fast") -> dict[str, Any]:
    return {"app": app, "tool": tool, "arguments": {"text": "x"} if tool == "echo" else {}}


def witnessed(pool: Pool, *tools: str, **how: Any) -> None:
    rules = {tool: {"read_only": True} for tool in tools}
    pool.configure(env={"EXEC": str(pool.witness)}, tools=rules, **how)


async def test_a_curated_tool_is_read_only_by_the_users_word_and_that_of_its_steps(pool):
    witnessed(pool, "echo")
    pool.compose("both", {"look": {"steps": [step("echo"), step("echo")], "read_only": True}})

    assert 0 == (await read(pool, "both", "look")).exit_status
    assert ["echo", "echo"] == pool.executed()


async def test_a_curated_tool_that_the_user_says_nothing_of_is_denied(pool):
    witnessed(pool, "echo")
    pool.compose("both", {"look": {"steps": [step("echo")]}}, trusted=True)

    with pytest.raises(Denied, match="both look: it is not declared read-only"):
        await read(pool, "both", "look")

    assert [] == pool.executed()


async def test_a_curated_tool_whose_steps_write_writes_nothing(pool):
    witnessed(pool, "echo")
    pool.compose("both", {
        "count": {"steps": [step("counter")], "read_only": True},
        "look_and_count": {"steps": [step("echo"), step("counter")], "read_only": True},
    })  # fmt: skip

    with pytest.raises(Denied, match=r"step 0 of count \(fast counter\): fast counter: it is not declared read-only"):
        await read(pool, "both", "count")
    later = await read(pool, "both", "look_and_count")

    assert 5 == later.exit_status
    assert b"step 1 of look_and_count (fast counter) failed: fast counter: it is not declared read-only" in later.body
    assert ["echo"] == pool.executed()


async def test_a_step_of_a_step_writes_nothing_either(pool):
    witnessed(pool)
    pool.compose("inner", {"count": {"steps": [step("counter")], "read_only": True}})
    pool.compose("outer", {"count": {"steps": [step("count", "inner")], "read_only": True}})

    with pytest.raises(Denied, match="fast counter: it is not declared read-only"):
        await read(pool, "outer", "count")

    assert [] == pool.executed()


async def test_a_session_that_served_a_read_serves_a_write_and_the_other_way_round(pool):
    witnessed(pool)
    pool.compose("both", {"count": {"steps": [step("counter")], "read_only": True}})

    for _ in range(2):
        with pytest.raises(Denied):
            await read(pool, "both", "count")
        assert 0 == (await read(pool, "both", "count", read_only=False)).exit_status

    assert ["counter", "counter"] == pool.executed()


async def test_a_part_that_an_untrusted_project_puts_in_is_denied(pool, project):
    pool.compose("both", {"look": {"steps": [step("echo")], "read_only": True}})
    witnessed(pool, "echo", folder=project)

    with pytest.raises(Untrusted, match=f"fast: it stands in {project}/tasak.yaml, which is not trusted"):
        await read(pool, "both", "look", cwd=project)
    TrustBook(pool.state).trust(project)

    assert [] == pool.executed()
    assert 0 == (await read(pool, "both", "look", cwd=project)).exit_status


async def test_a_redefined_part_is_refused_to_any_caller(pool, project):
    witnessed(pool)
    witnessed(pool, folder=project)
    pool.compose("both", {"count": {"steps": [step("counter")]}})

    with pytest.raises(Untrusted, match=f"{project}/tasak.yaml redefines the app 'fast' of {pool.state.config}"):
        await read(pool, "both", "count", read_only=False, cwd=project)

    assert [] == pool.executed()


# ── allow and deny, for any caller ───────────────────────────────────────────────────────────────────────────────


async def test_what_the_config_allows_counts_from_the_next_list_on_though_the_server_is_not_asked_again(pool):
    pool.script(ANNOTATED, cache_ttl=900)
    before = await readable(pool, "scripted", read_only=False)
    session = pool.manager.find(pool.app("scripted"))

    app = pool.script(ANNOTATED, cache_ttl=900, allow=["says_*", "pay"], deny=["*_text", "pay"])

    assert 6 == len(before)
    assert ["says_nothing"] == await readable(pool, "scripted", read_only=False)
    assert session is not pool.manager.find(app)


@pytest.mark.parametrize("refresh", [False, True])
async def test_a_tool_that_appears_is_measured_by_the_same_rule(pool, refresh):
    grows = """
names = []

def tools_list(message):
    names.append("tool_%d" % (len(names) + 1))
    answer(message, tools=tools(*names))
"""
    app = pool.script(grows, cache_ttl=0, deny=["tool_2"])
    for _ in range(3):
        listed = await soon(pool.service.list_tools(app, refresh=refresh))

    assert ["tool_1", "tool_3"] == [tool["name"] for tool in listed.tools]
    with pytest.raises(Denied):
        await pool.call(app, "tool_2")
    assert 0 == calls(pool)


async def test_a_hint_names_no_tool_that_is_denied(pool):
    app = pool.script(ANNOTATED, deny=["says_text"])

    with pytest.raises(UnknownTool) as raised:
        await pool.call(app, "says_txet")

    assert raised.value.fix is not None
    assert "says_text" not in raised.value.fix
