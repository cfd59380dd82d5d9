"""The table of what shows what: true of the tests that there are, and what docs/security.md says."""

import ast
from functools import cache
from pathlib import Path

import pytest

from tests.security import ROWS, as_markdown

TESTS = Path(__file__).parents[1]

ALL = {row.what: row for rows in ROWS.values() for row in rows}


@cache
def names_in(path: str) -> frozenset[str]:
    tree = ast.parse((TESTS / path).read_text())
    return frozenset(each.name for each in ast.walk(tree) if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize("row", ALL)
def test_every_test_of_a_row_is_there(row):
    named = [test.split("::") for test in ALL[row].tests]

    assert [] == [f"{path}::{name}" for path, name in named if name not in names_in(path)]


@pytest.mark.parametrize("row", ALL)
def test_a_row_without_a_test_says_why(row):
    assert ALL[row].tests or ALL[row].lacks


def test_every_file_of_tests_here_has_a_part_in_it():
    named = {test.partition("::")[0] for row in ALL.values() for test in row.tests}
    here = {f"security/{path.name}" for path in Path(__file__).parent.glob("test_*.py")} - {"security/test_rows.py"}

    assert set() == here - named


def test_the_page_on_security_is_made_of_the_rows():
    assert (TESTS.parent / "docs" / "security.md").read_text().endswith(f"\n\n{as_markdown()}")
