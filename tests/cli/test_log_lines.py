"""What `tasak daemon logs` shows of a log that is written, rotated, or none at all."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasak.cli.log_lines import SHOWN_LINES, log_lines
from tasak.errors import BadConfig


class Over(Exception):
    """Nothing more happens to the log."""


def happening(*deeds: Callable[[], object]) -> Callable[[], None]:
    """A pause in which the next of these deeds is done."""
    left = iter(deeds)

    def pause() -> None:
        deed = next(left, None)
        if deed is None:
            raise Over
        deed()

    return pause


def followed(log: Path, *deeds: Callable[[], object]) -> list[str]:
    """What is shown until all of it has happened."""

    def shown() -> Iterator[str]:
        try:
            yield from log_lines(log, follow=True, pause=happening(*deeds))
        except Over:
            return

    return list(shown())


@pytest.fixture
def log(tmp_path):
    return tmp_path / "daemon.log"


def write(log, *lines: object) -> None:
    with log.open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


def put_aside(log) -> None:
    log.rename(log.with_name("daemon.log.1"))


def test_the_last_lines_are_shown(log):
    write(log, *range(SHOWN_LINES + 5))

    assert [*map(str, range(5, SHOWN_LINES + 5))] == [*log_lines(log, follow=False)]


def test_where_there_is_no_log_nothing_is_shown(log):
    assert [] == [*log_lines(log, follow=True)]


def test_what_comes_is_shown(log):
    write(log, "one")

    assert ["one", "two", "three"] == followed(log, lambda: write(log, "two"), lambda: write(log, "three"))


def test_no_line_is_lost_when_the_log_is_rotated(log):
    write(log, "one")
    many = [*map(str, range(2 * SHOWN_LINES))]

    def rotate():
        write(log, "two")
        put_aside(log)
        write(log, *many)

    assert ["one", "two", *many] == followed(log, rotate)


def test_a_log_that_is_put_aside_is_waited_for(log):
    write(log, "one")

    assert ["one", "two"] == followed(log, lambda: put_aside(log), lambda: None, lambda: write(log, "two"))


@pytest.mark.slow
def test_a_log_is_followed_however_often_it_is_rotated(log):
    rotations = 2000
    write(log, 0)

    def rotate(number):
        put_aside(log)
        write(log, number)

    deeds = [lambda number=number: rotate(number) for number in range(1, rotations)]
    assert [*map(str, range(rotations))] == followed(log, *deeds)


@pytest.mark.parametrize("plant", ["folder", "pipe", "link"])
def test_what_is_no_log_of_ours_is_named(log, plant):
    match plant:
        case "folder":
            log.mkdir()
        case "pipe":
            os.mkfifo(log)
        case "link":
            log.symlink_to(__file__)

    with pytest.raises(BadConfig, match=r"daemon\.log is not a file of yours alone"):
        list(log_lines(log, follow=False))
