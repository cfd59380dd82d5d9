import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench.figure import Figure, Target
from bench.pairs import Pairs, interleaved

ROOT = Path(__file__).parents[1]

# The row that takes the least time, and a bound for a busy machine.
ROW = "warm-call"
PATIENCE = 50.0


def bench(*words: str, patience: float = PATIENCE) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "bench", *words], cwd=ROOT, capture_output=True, text=True, timeout=patience, check=False
    )


@pytest.mark.slow
@pytest.mark.keeps("whoever started its daemon has gone, and nobody else buries it")
def test_the_benchmark_measures_both_sides_and_says_whether_the_target_is_met():
    done = bench("--quick", "--json", ROW)

    assert 0 == done.returncode, done.stderr
    document = json.loads(done.stdout)
    assert {"tasak", "python", "system", "cores", "load", "quick", "figures"} == set(document)
    *_, in_python = document["figures"]
    assert {"of": "ratio", "at_most": 1.15} == in_python["target"]
    for figure in document["figures"]:
        assert (ROW, "s", 5) == (figure["name"], figure["unit"], figure["pairs"])
        assert figure["ours"]["median"] > 0
        assert figure["reference"]["median"] > 0
        low, high = figure["quartiles"]
        assert low <= figure["ratio"] <= high
        assert figure["met"] == (figure["ratio"] <= figure["target"]["at_most"])


@pytest.mark.slow
@pytest.mark.compiler
@pytest.mark.keeps("whoever started its daemon has gone, and nobody else buries it")
def test_the_row_of_warm_calls_says_which_launcher_and_what_installed_it():
    done = bench("--quick", "--json", ROW)

    native, in_python = json.loads(done.stdout)["figures"]
    assert re.fullmatch(r"warm `tasak demo add` \(native, installed by (pip [0-9.]+|uv)\)", native["ours"]["what"])
    assert {"of": "ratio", "at_most": 0.2} == native["target"]
    assert "warm `tasak demo add` (python, scripts/tasak)" == in_python["ours"]["what"]


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.keeps("whoever started its daemon has gone, and nobody else buries it")
def test_the_row_of_bulkheads_measures_beside_real_trouble():
    done = bench("--quick", "--json", "bulkheads", patience=390.0)

    assert 0 == done.returncode, done.stderr
    [figure] = json.loads(done.stdout)["figures"]
    assert ("bulkheads", 2) == (figure["name"], figure["pairs"])
    assert {"of": "ratio", "at_most": 2.0} == figure["target"]


def test_a_row_that_is_none_is_refused_with_those_that_are():
    done = bench("warm")

    assert 2 == done.returncode
    assert ROW in done.stderr


def test_who_is_measured_first_alternates():
    turns = []

    def measure(name: str) -> float:
        turns.append(name)
        return 1.0

    interleaved(lambda: measure("ours"), lambda: measure("reference"), 3)

    assert ["ours", "reference", "reference", "ours", "ours", "reference"] == turns


def test_neither_a_drift_of_the_machine_nor_a_hiccup_moves_the_ratio():
    pairs = Pairs(ours=[2.0, 60.0, 8.0], reference=[1.0, 3.0, 4.0])

    assert 2.0 == pairs.ratio
    assert (2.0, 11.0) == pairs.quartiles


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (Target(at_most=2.0), "met"),
        (Target(at_most=1.9), "MISSED"),
        (Target(of="ours", at_most=6.0), "met"),
        (Target(of="ours", at_most=5.9), "MISSED"),
    ],
)
def test_a_target_bounds_the_ratio_or_our_own_median(target, expected):
    figure = Figure(name="row", ours="a", reference="b", pairs=Pairs([6.0], [3.0]), target=target)

    assert expected == figure.as_cells()[-1]
    assert (expected == "met") == figure.as_json()["met"]


def test_a_figure_that_explains_another_has_no_target_and_misses_none():
    figure = Figure(name="row", ours="a", reference="b", pairs=Pairs([6.0], [3.0]))

    assert ["2.00 [2.00 2.00]", "", ""] == figure.as_cells()[-3:]
    assert (None, None) == (figure.as_json()["target"], figure.as_json()["met"])
    assert figure.is_met


@pytest.mark.slow
@pytest.mark.compiler
@pytest.mark.keeps("whoever started its daemon has gone, and nobody else buries it")
def test_the_parts_of_a_warm_call_are_measured_with_both_launchers_and_by_themselves():
    done = bench("--quick", "--json", "warm-parts")

    assert 0 == done.returncode, done.stderr
    native, in_python, demo, echo = json.loads(done.stdout)["figures"]
    assert native["ours"]["what"].startswith("warm `tasak stdlib echo` (native, installed by ")
    assert "warm `tasak stdlib echo` (python, scripts/tasak)" == in_python["ours"]["what"]
    assert demo["ours"]["what"] != echo["ours"]["what"]
    for figure in (native, in_python, demo, echo):
        assert ("warm-parts", 5) == (figure["name"], figure["pairs"])
        assert figure["ours"]["median"] > 0
