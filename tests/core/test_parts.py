"""Apps that are made of other apps: how they are resolved for a caller, and how they call their parts."""

import os
import signal

import pytest

from tasak.errors import BadConfig, Denied, SessionLost
from tasak.request import Request
from tests.core.pool import soon, until

ECHO = {"steps": [{"app": "fast", "tool": "echo", "arguments": {"text": "${args.word}!"}}]}
WORD = {"parameters": {"type": "object", "properties": {"word": {"type": "string"}}}}
COUNT = {"steps": [{"app": "fast", "tool": "counter"}]}


async def test_a_curated_tool_calls_its_part_over_the_pool(pool):
    fast = pool.define()
    pool.compose("both", {"say": {**WORD, **ECHO}, "count": COUNT})
    await pool.text(fast, "counter")

    said = await pool.text(pool.app("both"), "say", word="hello")
    counted = await pool.text(pool.app("both"), "count")

    assert ("hello!", "2") == (said, counted)


async def test_a_call_of_a_part_is_counted_as_one_of_that_app(pool):
    pool.define()
    pool.compose("both", {"count": COUNT})

    await pool.text(pool.app("both"), "count")

    assert 1 == pool.counted("tasak_requests_total", app="fast", operation="call", end="ok")


async def test_a_part_may_be_made_of_parts(pool):
    pool.define()
    pool.compose("inner", {"say": {**WORD, **ECHO}})
    again = {"app": "inner", "tool": "say", "arguments": {"word": "${args.word}"}}
    pool.compose("outer", {"say": {**WORD, "steps": [again]}})

    assert "hello!" == await pool.text(pool.app("outer"), "say", word="hello")


async def test_what_a_part_does_not_allow_its_whole_does_not_do(pool):
    pool.define(deny=["counter"])
    pool.compose("both", {"count": COUNT})

    with pytest.raises(Denied, match="does not allow counter"):
        await pool.call(pool.app("both"), "count")


async def test_a_part_that_dies_leaves_the_outcome_open(pool):
    pool.define()
    pool.compose("both", {"end": {"steps": [{"app": "fast", "tool": "die", "arguments": {"status": 3}}]}})

    with pytest.raises(SessionLost, match=r"both end: step 0 of end .fast die.: fast die: .* exited with status 3"):
        await pool.call(pool.app("both"), "end")


async def test_the_timeout_of_the_call_is_that_of_each_step(pool):
    pool.define(call_timeout=0.2)
    pool.compose("both", {"wait": {"steps": [{"app": "fast", "tool": "sleep", "arguments": {"seconds": 0.5}}]}})

    assert "slept" == await pool.text(pool.app("both", timeout=15), "wait")


@pytest.mark.parametrize("names", [["a"], ["a", "b"], ["a", "b", "c"]])
async def test_apps_that_call_each_other_in_a_circle_are_refused(pool, names):
    for name, following in zip(names, [*names[1:], names[0]], strict=True):
        pool.compose(name, {"go": {"steps": [{"app": following, "tool": "go"}]}})

    with pytest.raises(BadConfig, match=f"it calls itself: {' → '.join([*names, 'a'])}"):
        pool.app("a")


async def test_two_steps_with_the_same_app_are_no_circle(pool):
    pool.define()
    pool.compose("both", {"twice": {"steps": [*COUNT["steps"], *COUNT["steps"]]}})

    assert "2" == await pool.text(pool.app("both"), "twice")


async def test_a_part_that_nobody_configured_is_told_with_the_app_that_wants_it(pool):
    pool.compose("both", {"count": {"steps": [{"app": "fats", "tool": "counter"}]}})
    pool.define()

    with pytest.raises(BadConfig, match=r"app 'both' in .*tasak.yaml: there is no app 'fats'") as caught:
        pool.app("both")

    assert "did you mean 'fast'?" == caught.value.fix


async def test_a_part_is_the_one_that_the_caller_would_get(pool, tmp_path):
    pool.compose("both", {"where": {"steps": [{"app": "fast", "tool": "where"}]}})
    found = []
    for name in ("one", "two"):
        project = tmp_path / name
        project.mkdir()
        pool.define(folder=project)

        found.append(await pool.text(pool.app("both", cwd=project), "where"))

    assert [str(tmp_path / "one"), str(tmp_path / "two")] == found


async def test_each_caller_has_its_own_values_in_the_parts(pool):
    pool.configure(env={"WHO": "${WHO}"})
    pool.compose("both", {"look": {"steps": [{"app": "fast", "tool": "environment"}]}})

    ann, bob = pool.app("both", WHO="ann"), pool.app("both", WHO="bob")

    assert ann.fingerprint != bob.fingerprint
    assert '"WHO": "ann"' in await pool.text(ann, "look")
    assert '"WHO": "bob"' in await pool.text(bob, "look")


async def test_an_edited_part_makes_the_whole_anew(pool):
    before = pool.define()
    pool.compose("both", {"count": COUNT})
    one = pool.app("both")
    assert before.fingerprint == one.parts["fast"].fingerprint

    pool.configure(env={"X": "1"})

    assert pool.app("both").fingerprint != one.fingerprint


async def test_a_session_of_ones_own_is_one_in_the_parts_too(pool):
    fast = pool.define()
    pool.compose("both", {"count": COUNT})
    await pool.text(fast, "counter")

    assert "1" == await pool.text(pool.app("both", session="mine"), "count")


async def test_templates_are_the_calls_and_variables_are_the_callers(pool):
    pool.define()
    text = "${args.word} ${WHO} $${args.word} $5"
    step = {"app": "fast", "tool": "echo", "arguments": {"text": text}}
    pool.compose("both", {"say": {**WORD, "steps": [step]}})

    said = await pool.text(pool.app("both", WHO="${args.word}$$"), "say", word="hello")

    assert "hello ${args.word}$$ ${args.word} $5" == said


async def test_a_variable_that_is_not_set_is_told_in_a_template_too(pool):
    pool.define()
    pool.compose("both", {"say": {"steps": [{"app": "fast", "tool": "echo", "arguments": {"text": "${WHO}"}}]}})

    with pytest.raises(BadConfig, match="the environment variable WHO is not set"):
        pool.app("both")


async def test_a_part_is_looked_for_again_when_its_program_has_changed(pool, tmp_path):
    """What is kept of a resolved app depends on its parts' programs and directories, too."""
    loader = pool.gateway._loader
    folder = tmp_path / "bin"
    folder.mkdir()
    env = {"PATH": f"{folder}:{os.environ['PATH']}"}
    pool.compose("both", {"go": {"steps": [{"app": "shell", "tool": "x"}]}})
    pool.shell("exit 1")
    before = loader.resolve("both", cwd=tmp_path, env=env)
    assert before is loader.resolve("both", cwd=tmp_path, env=env)

    (folder / "sh").symlink_to("/bin/sh")

    after = loader.resolve("both", cwd=tmp_path, env=env)
    assert str(folder / "sh") == after.parts["shell"].config.options["command"][0]


async def test_a_relative_program_of_a_command_lies_where_the_file_does_even_for_a_caller_elsewhere(pool, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for folder, word in ((tmp_path, "ours"), (elsewhere, "theirs")):
        (folder / "say").write_text(f"#!/bin/sh\necho {word} in $(pwd)\n")
        (folder / "say").chmod(0o755)
    pool.compose("both", {"say": {"steps": [{"command": ["./say"]}]}}, cwd="caller")

    said = await soon(pool.text(pool.app("both", cwd=elsewhere), "say"))

    assert f"ours in {elsewhere}" == said


async def test_the_caller_of_a_whole_is_told_that_a_parts_state_is_lost(pool):
    fast = pool.define()
    pool.compose("both", {"count": COUNT})
    await pool.text(fast, "counter")
    os.kill(pool.manager.find(fast).session.pid, signal.SIGKILL)
    await until(lambda: pool.manager.find(fast) is None)
    request = Request(app="both", tool="count", arguments={}, cwd=pool.root, env={"PATH": os.environ["PATH"]})

    reply = await soon(pool.gateway.call(request))

    assert ["fast: this is a fresh session; the state of the earlier one is gone"] == list(reply.notices)
