"""What is of the launcher in Python alone. How it behaves is in `test_launchers.py`, together with the one in C."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasak import errors
from tasak.client import fast
from tests.client.daemon_stub import PATIENCE, DaemonStub, answer, plain
from tests.client.launchers import environment, words_of_bytes


def test_options_say_what_they_mean_in_json():
    words = ["--timeout", "007", "--session", '\u00e4"\\\udcff', "app", "tool"]

    _, _, members = fast.plain_call(words)

    assert {"timeout": 7, "session": '\u00e4"\\\udcff', "tool": "tool", "argv": []} == json.loads(fast.as_body(members))


@given(argv=st.lists(words_of_bytes, max_size=5), env=st.dictionaries(words_of_bytes, words_of_bytes, max_size=5))
def test_the_body_gives_back_every_byte(argv, env):
    _, _, members = fast.plain_call(["app", "tool", *map(os.fsdecode, argv)])
    members["env"] = fast.as_object({fast.quote(name): fast.quote(value) for name, value in env.items()})

    sent = json.loads(fast.as_body(members))

    assert argv == [os.fsencode(word) for word in sent["argv"]]
    assert env == {os.fsencode(name): os.fsencode(value) for name, value in sent["env"].items()}


@pytest.mark.parametrize("app", ["a", "0", "app", "a.b_c-d", "A" * 64])
def test_a_name_is_a_name(app):
    assert app == fast.plain_call([app, "tool"])[0]


@given(st.text(st.characters(max_codepoint=300), max_size=70))
def test_names_are_what_the_design_says(app):
    assert bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", app)) == fast.is_name(app)


# What it costs


def modules_loaded_by(*arguments: str, home: Path) -> set[str]:
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments], env=environment(home), capture_output=True, timeout=PATIENCE
    )
    assert 0 == ended.returncode
    return {line.rpartition("|")[2].strip() for line in ended.stderr.decode().splitlines()}


def test_a_plain_call_loads_next_to_nothing():
    with DaemonStub(answer(plain(b"ok"))) as daemon:
        driver = "from tasak.client import fast; import sys; fast.run(sys.argv[1:])"
        loaded = modules_loaded_by("-c", driver, "app", "tool", home=daemon.home)
        bare = modules_loaded_by("-c", "pass", home=daemon.home)

    assert {"tasak", "tasak.client", "tasak.client.fast", "tasak.wire", "_socket"} == loaded - bare


def test_its_numbers_are_those_of_the_error_tree():
    assert (errors.TOOL_ERROR_EXIT, errors.InternalError.exit_status, errors.OutcomeUnknown.exit_status) == (
        fast.TOOL_ERROR,
        fast.INTERNAL_ERROR,
        fast.OUTCOME_UNKNOWN,
    )
