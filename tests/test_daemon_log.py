"""The daemon's log: what is logged while it is being opened is in it, once."""

import json
import subprocess
import sys
from collections import Counter

import pytest

# A thread that logs all the time, as the loop may, while the main thread opens the log.
SCRIPT = """
import logging, sys, threading
from logging.handlers import MemoryHandler
from pathlib import Path

from tasak.daemon_log import write_to

early = MemoryHandler(10_000, flushLevel=logging.CRITICAL + 1)
logging.basicConfig(level="INFO", handlers=[early])
is_open = threading.Event()

def log():
    number = 0
    while number < 100 or not is_open.is_set():
        logging.info("record %d", number)
        number += 1
    print(number)

thread = threading.Thread(target=log)
thread.start()
write_to(Path(sys.argv[1]), early)
is_open.set()
thread.join()
"""


def test_it_is_written_without_what_paints_consoles_and_others_still_have_that():
    script = (
        "import sys, tasak.daemon_log; print('rich' in sys.modules); import rich.console; print('rich' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)

    assert ["False", "True"] == done.stdout.split()


@pytest.mark.slow
def test_what_is_logged_while_the_log_is_opened_is_in_it_once(tmp_path):
    for number in range(5):
        path = tmp_path / f"{number}.log"
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, path], capture_output=True, text=True, timeout=30, check=True
        )

        written = Counter(json.loads(line)["event"] for line in path.read_text().splitlines())

        assert {f"record {each}": 1 for each in range(int(done.stdout))} == written
