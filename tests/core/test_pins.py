"""What a caller hears of an app whose command runs whatever version of a package is the newest."""

import os
import shlex
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tasak.request import Reply, Request
from tests.core.pool import Pool, soon
from tests.shell import STDIO_SERVER

WARNING = (
    "fast: npx runs whatever version of some-server is the newest; "
    "write some-server@VERSION; `npm view some-server version` says the newest"
)


@pytest.fixture
async def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pool]:
    """With an `npx` that runs our own server, whatever it is asked for."""
    npx = tmp_path / "bin" / "npx"
    npx.parent.mkdir()
    npx.write_text(f"#!/bin/sh\nexec {shlex.join([sys.executable, '-I', '-S', str(STDIO_SERVER)])}\n")
    npx.chmod(0o755)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{npx.parent}:{os.environ['PATH']}")
    async with Pool(tmp_path) as made:
        yield made


def request(pool: Pool, app: str = "fast", tool: str = "counter") -> Request:
    return Request(app=app, tool=tool, arguments={}, cwd=pool.root, env={"PATH": os.environ["PATH"]})


async def call(pool: Pool, app: str = "fast", tool: str = "counter") -> Reply:
    return await soon(pool.gateway.call(request(pool, app, tool)))


async def test_the_first_answer_over_each_connection_names_the_pinned_form(pool):
    pool.define(command="npx -y some-server")

    first, second = await call(pool), await call(pool)
    for connection in list(pool.manager):
        await soon(pool.manager.close(connection))
    another_day = await call(pool)

    assert ([WARNING], []) == (list(first.notices), list(second.notices))
    assert WARNING in another_day.notices


async def test_who_lists_the_tools_first_hears_it(pool):
    pool.define(command="npx -y some-server@latest")

    listed = await soon(pool.gateway.list_tools(request(pool)))

    assert ([WARNING], []) == (list(listed.notices), list((await call(pool)).notices))


async def test_a_call_that_fails_leaves_it_to_the_next_one(pool):
    pool.define(command="npx -y some-server")
    with pytest.raises(Exception, match="no tool"):
        await call(pool, tool="no_such_tool")

    assert [WARNING] == list((await call(pool)).notices)


async def test_the_caller_of_a_whole_hears_it_of_its_parts(pool):
    pool.define(command="npx -y some-server")
    pool.compose("whole", {"run": {"steps": [{"app": "fast", "tool": "counter"}]}})

    assert [WARNING] == list((await call(pool, "whole", "run")).notices)


@pytest.mark.parametrize("command", ["npx -y some-server@1.2.3", "npx -y some-server@${VERSION:-1}"])
async def test_what_names_its_version_is_not_told_of(pool, command):
    pool.define(command=command)

    assert [] == list((await call(pool)).notices)
