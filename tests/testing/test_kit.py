"""What the author of a transport imports from the kit, and what that loads."""

import subprocess
import sys

import pytest

import tasak.testing

PATIENCE = 60.0

HEAVY = {"pytest", "aiohttp", "mcp", "psutil", "tasak.core"}


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("name", tasak.testing.__all__)
def test_every_name_is_there(name):
    assert getattr(tasak.testing, name).__name__ == name


def test_no_other_name_is():
    with pytest.raises(AttributeError, match=r"^module 'tasak\.testing' has no attribute 'Nothing'$"):
        tasak.testing.Nothing  # noqa: B018 - it is to raise


def test_the_kit_itself_loads_nothing_heavy():
    assert set() == loaded_by("import tasak.testing") & HEAVY


@pytest.mark.parametrize("name", ["HttpServer", "StdioServer", "FaultProxy", "no_leaks", "ContractPeer", "Answers"])
@pytest.mark.slow
def test_only_the_contract_needs_pytest(name):
    assert "pytest" not in loaded_by(f"from tasak.testing import {name}")
