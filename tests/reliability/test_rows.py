"""The table of what covers what: complete, and true of the tests that there are."""

import ast
from functools import cache
from pathlib import Path

import pytest

from tests.reliability import ROWS, as_markdown

TESTS = Path(__file__).parents[1]

# Numbers that no row has.
UNUSED = {14, 16, 17, 22, 25, 34, 46, 48}


@cache
def names_in(path: str) -> frozenset[str]:
    tree = ast.parse((TESTS / path).read_text())
    return frozenset(each.name for each in ast.walk(tree) if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef))


def test_every_row_is_there():
    once = [f"D{number}" for number in range(1, 11)]
    faults = [f"F{number:02}" for number in range(1, 51) if number not in UNUSED]

    assert [*once, *faults] == list(ROWS)


@pytest.mark.parametrize("row", ROWS)
def test_every_test_of_a_row_is_there(row):
    named = [test.split("::") for test in ROWS[row].tests]

    assert [] == [f"{path}::{name}" for path, name in named if name not in names_in(path)]


@pytest.mark.parametrize("row", ROWS)
def test_a_row_without_a_test_says_why(row):
    assert ROWS[row].tests or ROWS[row].lacks


def test_the_page_on_reliability_is_made_of_the_rows():
    assert (TESTS.parent / "docs" / "reliability.md").read_text().endswith(f"\n\n{as_markdown()}")
