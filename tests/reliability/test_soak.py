"""The soak's short form: what holds after a hundred thousand calls should hold after three thousand."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from bench.soak import verdict
from bench.soak.ledger import End, Findings, Ledger
from bench.soak.samples import Sample

ROOT = Path(__file__).parents[2]

# Five times as many faults as the long form has: as many of them as it has in fifteen thousand calls.
ASKED = ("--calls", "3000", "--faults", "0.05", "--seed", "2026")

PATIENCE = 150.0

OK = End("ok", "executed")
LOST = End("session_lost", "unknown")


@pytest.mark.slow
@pytest.mark.keeps("whoever started its daemon has gone, and nobody else buries it")
@pytest.mark.timeout(PATIENCE + 30)
def test_three_thousand_calls_while_things_break_each_end_once_and_truly_and_leave_nothing():
    done = subprocess.run(
        [sys.executable, "-m", "bench.soak", *ASKED],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )

    assert 0 == done.returncode, done.stdout + done.stderr
    assert "3000 calls in" in done.stdout
    assert "BROKEN" not in done.stdout


@pytest.mark.slow
def test_an_app_that_is_none_of_them_is_refused_with_those_that_are():
    done = subprocess.run(
        [sys.executable, "-m", "bench.soak", "--apps", "stdio", "pigeon"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )

    assert 2 == done.returncode
    assert "'curated'" in done.stderr


# What it would find


def ledger(**ends: End) -> Ledger:
    """One of calls that have ended so."""
    made = Ledger()
    for text, end in ends.items():
        made.begin(text)
        made.end(text, end)
    return made


def test_calls_that_end_once_and_truly_are_no_finding():
    ended = ledger(a=OK, b=End("connect_failed", "not_executed"), c=LOST, d=LOST, e=End("server_error", "executed"))

    assert Findings([], [], [], []) == ended.findings(Counter(a=1, c=1, first=2))


def test_a_call_without_an_end_and_one_with_two_are_found():
    ended = ledger(a=OK)
    ended.begin("b")
    ended.end("a", OK)

    assert ["a", "b"] == ended.findings(Counter(a=1)).not_ended_once


@pytest.mark.parametrize("word", ["wrong_answer", "no_answer", "no_end", "internal"])
def test_an_end_that_no_caller_may_see_is_found(word):
    ended = ledger(a=End(word, "unknown", "what was said"))

    assert [f"a {word} (what was said)"] == ended.findings(Counter()).lies


def test_a_call_that_ran_twice_is_found():
    assert ["a"] == ledger(a=LOST).findings(Counter(a=2)).ran_twice


@pytest.mark.parametrize(
    ("end", "executions"), [(OK, 0), (End("server_error", "executed"), 2), (End("busy", "not_executed"), 1), (LOST, 2)]
)
def test_what_is_told_of_a_call_and_is_not_so_is_found(end, executions):
    [untrue] = ledger(a=end).findings(Counter(a=executions)).untrue

    assert untrue.endswith(f"and it ran {executions} times")


@pytest.mark.parametrize(
    ("after", "is_kept"), [({"socket": 2, "pipe": 1}, True), ({"socket": 3}, False), ({"socket": 2, "pipe": 2}, False)]
)
def test_descriptors_are_held_against_each_other_kind_by_kind(after, is_kept):
    assert is_kept == verdict.descriptors(Counter(socket=2, pipe=1), Counter(after)).is_kept


@pytest.mark.parametrize(("most", "is_kept"), [(109, True), (112, False)])
def test_memory_is_held_against_what_it_was_after_ten_thousand_calls(most, is_kept):
    samples = [sample(calls, memory) for calls, memory in [(1000, 10), (10_000, 100), (11_000, most), (12_000, 100)]]

    assert is_kept == verdict.memory(samples).is_kept


def sample(calls: int, memory: int) -> Sample:
    nothing = Counter[str]()
    return Sample(calls=calls, memory=memory, descriptors=nothing, threads=0, tasks=None, children=0, zombies=0)
