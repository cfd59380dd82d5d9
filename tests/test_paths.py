"""Our files: private, no one else's, and never taken for strange while they are replaced."""

import os
import stat
import threading

import pytest

from tasak.errors import BadConfig
from tasak.paths import open_private, read_private, write_private


def test_a_file_that_another_replaces_meanwhile_is_opened(tmp_path):
    path = tmp_path / "journal"
    is_over = threading.Event()

    def replace_again_and_again():
        while not is_over.is_set():
            write_private(path, "whole")

    replacing = threading.Thread(target=replace_again_and_again)
    replacing.start()
    try:
        for _ in range(5000):
            os.close(open_private(path, os.O_RDONLY))
    finally:
        is_over.set()
        replacing.join()

    assert "whole" == path.read_text()


def test_a_file_that_has_a_second_name_is_refused(tmp_path):
    path = tmp_path / "journal"
    (tmp_path / "victim").write_text("theirs")
    os.link(tmp_path / "victim", path)

    with pytest.raises(BadConfig, match="not a file of yours alone"):
        open_private(path, os.O_RDWR)


def test_a_link_is_not_followed(tmp_path):
    path = tmp_path / "journal"
    (tmp_path / "victim").write_text("theirs")
    path.symlink_to(tmp_path / "victim")

    with pytest.raises(BadConfig, match="not a file of yours alone"):
        open_private(path, os.O_RDWR)


def test_reading_a_file_that_is_private_changes_nothing_of_it(tmp_path):
    path = tmp_path / "journal"
    write_private(path, "whole")
    before = path.stat()

    assert "whole" == read_private(path)
    assert before.st_ctime_ns == path.stat().st_ctime_ns


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_a_file_is_private_whatever_the_umask_is(tmp_path, umask):
    before = os.umask(umask)
    try:
        os.close(open_private(tmp_path / "journal", os.O_RDWR))
    finally:
        os.umask(before)

    assert 0o600 == stat.S_IMODE((tmp_path / "journal").stat().st_mode)
