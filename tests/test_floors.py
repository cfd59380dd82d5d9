"""What a fresh interpreter has loaded after one import: the floors, as `sys.modules` shows them.

The contracts of import-linter hold the floors by reading; lazy imports of the packages below us show only here. What
a call on the hot path loads is in `tests/client/test_fast.py`.
"""

import os
import subprocess
import sys

import pytest

from tests.client.daemon_stub import DaemonStub, answer, plain

PATIENCE = 60.0

HEAVY = {"mcp", "aiohttp", "pydantic", "pluggy", "yaml", "asyncio", "structlog", "click", "rich"}

BOTTOM = (
    "tasak.errors",
    "tasak.paths",
    "tasak.wire",
    "tasak.inert",
    "tasak.request",
    "tasak.client.client",
    "tasak.client.fast",
    "tasak.client.launcher",
    "tasak.client.stopper",
)

# A call through the daemon must not pay for the core: the daemon has it.
NOT_FOR_THE_COMMAND = HEAVY - {"click"} | {
    "jsonschema",
    "tasak.core",
    "tasak.transports",
    "tasak.plugin",
    "tasak.server",
}

# The daemon opens its socket first and imports mcp afterwards, in a thread; a direct call needs no aiohttp at all.
NOT_FOR_THE_GATEWAY = {"mcp", "aiohttp"}


def loaded_by(module: str) -> set[str]:
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        *((module, HEAVY) for module in BOTTOM),
        ("tasak.cli.main", NOT_FOR_THE_COMMAND),
        ("tasak.core.gateway", NOT_FOR_THE_GATEWAY),
        ("tasak.transports.stdio", {"mcp"}),
        ("tasak.transports.http", {"mcp", "httpx2", "pydantic"}),
        ("tasak.transports.sse", {"mcp", "httpx2", "pydantic"}),
        ("tasak.auth.options", {"mcp", "aiohttp", "pydantic"}),
    ],
)
def test_importing_it_loads_nothing_heavy(module, heavy):
    loaded = loaded_by(module)

    assert module in loaded
    assert set() == loaded & heavy


def test_a_call_through_the_daemon_loads_nothing_heavy_even_when_the_full_command_prints_it():
    with DaemonStub(answer(plain(b"5\n", more="Tasak-Notice: look%20here\r\n"))) as daemon:
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "tasak", "app", "tool"],
            env={"HOME": str(daemon.home), "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}

    assert "5\n" == done.stdout
    assert "tasak.cli.main" in loaded
    assert set() == loaded & NOT_FOR_THE_COMMAND
