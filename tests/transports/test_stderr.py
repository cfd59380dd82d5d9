"""What is kept of a process's stderr."""

import asyncio
import os
import shutil
import stat
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tasak.transports.pace import Allowance
from tasak.transports.stderr import StderrLog
from tests.core.pool import until

PATIENCE = 20.0
MIB = 1 << 20
WITHOUT_BOUND = Allowance(1e9, 1e9)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "app.log"


@pytest.fixture
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


async def kept(*chunks: bytes, path: Path | None = None, allowance: Allowance | None = None) -> list[str]:
    """The lines of a process that wrote `chunks` and ended."""
    log = StderrLog(path, allowance=allowance)
    async with drained_into(log) as stream:
        for chunk in chunks:
            stream.feed_data(chunk)
            await asyncio.sleep(0)
    return list(log.lines())


@asynccontextmanager
async def drained_into(log: StderrLog) -> AsyncIterator[asyncio.StreamReader]:
    """A stream that is drained into `log`, which is closed when the stream has ended."""
    stream = asyncio.StreamReader()
    draining = asyncio.create_task(log.drain(stream))
    try:
        yield stream
    finally:
        stream.feed_eof()
        await asyncio.wait_for(draining, PATIENCE)


# In memory


async def test_the_last_200_lines_are_kept_oldest_first():
    written = b"".join(b"line %d\n" % number for number in range(250))

    assert [f"line {number}" for number in range(50, 250)] == await kept(written)


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([b"a\nb\n"], ["a", "b"]),
        ([b"a", b"b\nc", b"d\n"], ["ab", "cd"]),
        ([b"a\n\nb\n"], ["a", "", "b"]),
        ([b"a\r\nb\r\n"], ["a", "b"]),
        (["ż".encode()[:1], "ż".encode()[1:] + b"\n"], ["ż"]),
        ([b"\xff\n"], ["\N{REPLACEMENT CHARACTER}"]),
        ([b"%s %d %\n"], ["%s %d %"]),
        ([b"a\nlast words"], ["a", "last words"]),
        ([], []),
    ],
    ids=[
        "lines",
        "pieces",
        "empty",
        "CRLF",
        "half a letter",
        "no UTF-8",
        "percent",
        "no newline at the end",
        "nothing",
    ],
)
async def test_lines_are_what_was_written_however_it_came(chunks, expected):
    assert expected == await kept(*chunks)


async def test_a_line_that_has_no_end_yet_is_shown_and_kept_once():
    log = StderrLog(None)
    async with drained_into(log) as stream:
        stream.feed_data(b"done\nPassword: ")
        await until(lambda: bool(log.lines()))
        shown = log.lines()
        stream.feed_data(b"?\n")

    assert ["done", "Password: "] == shown
    assert ["done", "Password: ?"] == log.lines()


async def test_each_line_is_told_as_it_is_kept():
    told: list[str] = []
    log = StderrLog(None, told.append)
    async with drained_into(log) as stream:
        stream.feed_data(b"a\nb\x1b\nlast")
        await until(lambda: len(told) == 2)

    assert ["a", "b\\x1b", "last"] == told


@pytest.mark.parametrize("chunk", [1000, 1 << 16, 1 << 20])
async def test_a_long_line_is_cut_and_the_next_one_is_not(chunk):
    long = b"x" * (1 << 20)
    pieces = [long[at : at + chunk] for at in range(0, len(long), chunk)]

    assert ["x" * 4000, "next"] == await kept(*pieces, b"tail\nnext\n")


@pytest.mark.slow
async def test_a_line_without_end_does_not_fill_the_memory():
    log = StderrLog(None, allowance=WITHOUT_BOUND)
    tracemalloc.start()
    try:
        async with drained_into(log) as stream:
            for _ in range(256):
                stream.feed_data(b"x" * (1 << 16))
                await until(lambda: stream.at_eof() or not stream._buffer)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert ["x" * 4000] == log.lines()
    assert peak < 2 * MIB


async def test_of_a_flood_the_beginning_and_the_end_are_kept_and_it_is_said_how_much_is_not(path):
    flood = [b"first\n" * 200, *[b"middle of it\n" * 5000] * 10, b"died of this\n"]

    await kept(*flood, path=path, allowance=Allowance(1, 1000))

    lines = path.read_text().splitlines(keepends=True)
    (gap,) = [number for number, line in enumerate(lines) if line.startswith("[tasak:")]
    assert ("first\n", "died of this\n") == (lines[0], lines[-1])
    kept_bytes = sum(map(len, lines)) - len(lines[gap])
    # The line that it broke off in ends all the same.
    left_out = len(b"".join(flood)) - kept_bytes + (lines[gap - 1] not in ("first\n", "middle of it\n"))
    assert f"[tasak: {left_out} bytes were left out here: too many at once]\n" == lines[gap]


async def test_terminal_escapes_are_inert(path):
    active = b"\x1b]0;title\x07\x1b[2J\rdone\xc2\x9b\xe2\x80\xae\n"

    lines = await kept(active, path=path)

    assert ["\\x1b]0;title\\x07\\x1b[2J\\x0ddone\\x9b\\u202e"] == lines
    assert f"{lines[0]}\n" == path.read_text()


# In the file


async def test_every_line_reaches_the_file_as_one_line(path):
    await kept(*(b"line %d\n" % number for number in range(250)), b"last words", path=path)

    assert [*(f"line {number}" for number in range(250)), "last words"] == path.read_text().splitlines()


async def test_a_second_process_of_the_app_continues_the_file(path):
    await kept(b"first\n", path=path)
    await kept(b"second\n", path=path)

    assert "first\nsecond\n" == path.read_text()


async def test_file_and_folder_are_their_owners_alone(path, no_umask):
    await kept(b"secret\n", path=path)

    assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    assert 0o700 == stat.S_IMODE(path.parent.stat().st_mode)


async def test_a_file_that_others_could_read_becomes_private(path):
    await kept(b"first\n", path=path)
    path.chmod(0o644)

    await kept(b"secret\n", path=path)

    assert 0o600 == stat.S_IMODE(path.stat().st_mode)


async def test_five_files_of_one_mebibyte_are_kept_and_all_are_private(path, no_umask):
    lines = [b"%07d %s\n" % (number, b"x" * 991) for number in range(7 * MIB // 1000)]

    await kept(
        *(b"".join(lines[at : at + 100]) for at in range(0, len(lines), 100)), path=path, allowance=WITHOUT_BOUND
    )

    names = ["app.log", *(f"app.log.{number}" for number in range(1, 5))]
    files = [path.with_name(name) for name in names]
    assert sorted(files) == sorted(path.parent.iterdir())
    assert {0o600} == {stat.S_IMODE(file.stat().st_mode) for file in files}
    assert all(file.stat().st_size <= MIB for file in files)
    # The newest lines, without a gap: what is lost is the oldest.
    there = b"".join(file.read_bytes() for file in reversed(files))
    assert b"".join(lines).endswith(there)
    assert len(there) > 4 * (MIB - 2000)


async def test_the_log_is_bounded_when_a_process_floods_it_with_long_lines(path):
    await kept(*[b"\x1b" * 100_000 + b"\n"] * 100, path=path)

    assert all(file.stat().st_size <= MIB for file in path.parent.iterdir())


async def test_there_need_not_be_a_file():
    assert ["a"] == await kept(b"a\n", path=None)


async def test_a_log_that_cannot_be_opened_is_said_and_costs_nothing_else(tmp_path, caplog):
    blocked = tmp_path / "file"
    blocked.touch()

    assert ["a"] == await kept(b"a\n", path=blocked / "app.log")
    assert ["no log of the app's stderr: "] == [message[:28] for message in caplog.messages]


@pytest.mark.parametrize("link", [os.symlink, os.link])
async def test_a_log_is_never_written_through_a_link(path, tmp_path, link, caplog):
    victim = tmp_path / "victim"
    victim.write_text("precious\n")
    path.parent.mkdir()
    link(victim, path)

    assert ["a"] == await kept(b"a\n", path=path)
    assert "precious\n" == victim.read_text()
    assert 1 == len(caplog.messages)


async def test_a_log_folder_that_goes_away_costs_nothing_else(path):
    log = StderrLog(path)
    async with drained_into(log) as stream:
        stream.feed_data(b"before\n")
        await until(lambda: bool(log.lines()))
        shutil.rmtree(path.parent)
        # Enough for a rotation, which finds no folder.
        stream.feed_data(b"".join(b"%s %d\n" % (b"x" * 1000, number) for number in range(2000)) + b"after\n")

    assert "after" == log.lines()[-1]
    assert 200 == len(log.lines())
