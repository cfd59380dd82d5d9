"""Which era of MCP a server speaks: found out, remembered, or said by the config."""

import asyncio

import pytest

from tasak.errors import BadConfig, ConnectFailed, InputNeeded, NotExecuted
from tests.core.pool import soon, until

# What a server answers that knows nothing but the version of 2026.
STATELESS = """
def initialize(message):
    refuse(message, -32601, "no such method")

def server_discover(message):
    meta = message["params"]["_meta"]
    assert meta["io.modelcontextprotocol/protocolVersion"] == "2026-07-28", meta
    answer(message, supportedVersions=["2026-07-28"], capabilities={"tools": {}}, resultType="complete",
           ttlMs=0, cacheScope="private", _meta={"io.modelcontextprotocol/serverInfo": {"name": "new", "version": "1"}})

def tools_list(message):
    answer(message, tools=tools("give"), resultType="complete", ttlMs=0, cacheScope="private")

def tools_call(message):
    answer(message, content=[], structuredContent=message["params"]["_meta"], resultType="complete")
"""

EXITS_ON_THE_GREETING = """
def initialize(message):
    sys.exit(1)
"""

SILENT_ON_THE_GREETING = """
def initialize(message):
    pass
"""


async def meta_of(pool, app):
    answer = await pool.call(app, "give")
    assert answer.result is not None
    return answer.result["structuredContent"]


async def test_a_server_that_shakes_hands_is_asked_for_nothing_else(pool):
    app = pool.script("")

    await pool.call(app, "give")

    assert "server/discover" not in pool.heard()
    assert "handshake" == pool.manager.find(app).era


async def test_a_server_that_knows_no_handshake_is_discovered(pool):
    app = pool.script(STATELESS)

    meta = await meta_of(pool, app)

    assert "2026-07-28" == meta["io.modelcontextprotocol/protocolVersion"]
    assert "tasak" == meta["io.modelcontextprotocol/clientInfo"]["name"]
    assert {} == meta["io.modelcontextprotocol/clientCapabilities"]
    session = pool.manager.find(app).session
    assert ("2026-07-28", "new") == (session.protocol_version, session.server_info["name"])


async def test_a_server_that_exits_on_the_handshake_is_started_afresh_in_the_other_era(pool):
    app = pool.script(STATELESS + EXITS_ON_THE_GREETING, init_attempts=1)

    await pool.call(app, "give")

    assert ["start", "initialize", "start", "server/discover"] == pool.heard()[:4]


@pytest.mark.slow
async def test_a_server_that_is_silent_on_the_handshake_is_discovered_after_five_seconds(pool):
    app = pool.script(STATELESS + SILENT_ON_THE_GREETING)

    await pool.call(app, "give")

    assert ["start", "initialize", "server/discover"] == pool.heard()[:3]


@pytest.mark.slow
async def test_a_slow_handshake_is_waited_for_while_the_server_is_asked_for_the_other_era(pool):
    app = pool.script("""
def initialize(message):
    global greeting
    greeting = message

def server_discover(message):
    refuse(message, -32601, "no such method")
    answer(greeting, protocolVersion="2025-11-25", capabilities={}, serverInfo={"name": "slow", "version": "1"})
""")

    await pool.call(app, "give")

    assert "handshake" == pool.manager.find(app).era
    assert 1 == pool.heard().count("start")


async def test_the_era_is_remembered_for_the_next_session(pool):
    app = pool.script(STATELESS + EXITS_ON_THE_GREETING)
    await pool.call(app, "give")
    await soon(pool.manager.close(pool.manager.find(app)))

    await pool.call(app, "give")

    assert ["start", "server/discover"] == pool.heard()[-4:-2]
    assert 1 == pool.heard().count("initialize")


async def test_what_is_remembered_is_only_tried_first(pool):
    app = pool.script("""
def initialize(message):
    if starts() <= 2:
        sys.exit(1)
    answer(message, protocolVersion="2025-11-25", capabilities={}, serverInfo={"name": "old", "version": "1"})

def server_discover(message):
    if starts() > 2:
        refuse(message, -32601, "no such method")
    else:
        answer(message, supportedVersions=["2026-07-28"], capabilities={}, resultType="complete", ttlMs=0,
               cacheScope="private")
""")
    await pool.call(app, "give")
    await soon(pool.manager.close(pool.manager.find(app)))

    await pool.call(app, "give")

    assert "handshake" == pool.manager.find(app).era


async def test_the_config_may_say_the_era(pool):
    app = pool.script(STATELESS, protocol="stateless")

    await pool.call(app, "give")

    assert "initialize" not in pool.heard()


async def test_the_era_that_the_config_says_is_the_only_one(pool):
    app = pool.script(STATELESS, protocol="handshake")

    with pytest.raises(ConnectFailed, match="the handshake was refused: no such method"):
        await pool.call(app, "give")

    assert "server/discover" not in pool.heard()


async def test_an_era_that_there_is_not_is_refused(pool):
    with pytest.raises(BadConfig, match="'protocol' is not what it should be: auto, handshake, stateless"):
        pool.define(protocol="2025")


async def test_a_deep_ping_discovers_where_there_is_no_ping(pool):
    app = pool.script(STATELESS + "\ndef ping(message):\n    refuse(message, -32601, 'no ping')\n")
    await pool.call(app, "give")
    before = pool.heard().count("server/discover")

    await soon(pool.manager.find(app).ping())

    assert before + 1 == pool.heard().count("server/discover")


@pytest.mark.parametrize("code", [-32020, -32022])
async def test_a_server_that_has_changed_its_version_gets_a_fresh_session_and_the_call_again(pool, code):
    app = pool.script(
        STATELESS
        + f"""
def tools_call(message):
    if starts() == 1:
        refuse(message, {code}, "not any more")
    else:
        answer(message, content=[], resultType="complete")
"""
    )

    answer = await pool.call(app, "give")

    assert "restarted" == answer.mark
    assert 2 == pool.heard().count("tools/call")


async def test_a_server_that_goes_on_refusing_is_not_asked_for_ever(pool):
    app = pool.script(
        STATELESS
        + """
def tools_call(message):
    refuse(message, -32022, "not any more")
"""
    )

    with pytest.raises(NotExecuted, match="the server has changed: not any more"):
        await pool.call(app, "give")

    assert 2 == pool.heard().count("tools/call")


async def test_a_question_of_the_server_is_told_and_is_no_result(pool):
    app = pool.script(
        STATELESS
        + """
def tools_call(message):
    answer(message, resultType="input_required", requestState="x", inputRequests={})
"""
    )

    with pytest.raises(InputNeeded, match="scripted give: the server asks a question"):
        await pool.call(app, "give")


async def test_a_tool_that_marks_its_headers_wrongly_is_not_there(pool):
    app = pool.script(
        STATELESS
        + """
def tools_list(message):
    bad = {"type": "object", "properties": {"a": {"type": "string", "x-mcp-header": "not a token"}}}
    listed = tools("give") + [{"name": "bad", "inputSchema": bad}]
    answer(message, tools=listed, resultType="complete", ttlMs=0, cacheScope="private")
"""
    )

    listed = await soon(pool.service.list_tools(app))

    assert ["give"] == [tool["name"] for tool in listed.tools]


async def test_those_whom_the_changed_server_still_answers_get_their_answers(pool):
    app = pool.script(
        STATELESS
        + """
waiting = []

def tools_call(message):
    if starts() > 1:
        answer(message, content=[], resultType="complete")
    elif len(waiting) < 2:
        waiting.append(message)
    else:
        refuse(message, -32022, "not any more")
        for each in waiting:
            answer(each, content=[], structuredContent={"session": "first"}, resultType="complete")
"""
    )

    answers = await soon(asyncio.gather(*(pool.call(app, "give") for _ in range(3))))

    assert [True, True, False] == sorted(("structuredContent" in each.result for each in answers), reverse=True)
    await until(lambda: 1 == len(pool.processes()))
