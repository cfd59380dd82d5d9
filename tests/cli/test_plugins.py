"""Third parties' plugins that go wrong: only their own apps do, and whoever looks is told."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.shell import FAST_APP, PATIENCE, Shell

PLUGIN = """
import sys, time
from tasak.plugin import hookimpl

@hookimpl
def transport_schema():
    return {"type": "object", "properties": {"place": {"type": "string"}}, "additionalProperties": False}

@hookimpl
async def ping(session):
    pass

@hookimpl
async def close(session):
    pass

@hookimpl
async def connect(app, host):
    %s
"""


class Site:
    """A folder of plugins as `pip install` leaves them, on the path of all that the shell starts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(self, name: str, code: str) -> None:
        module = f"plugin_{name}"
        (self.folder / f"{module}.py").write_text(code)
        info = self.folder / f"tasak_{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: tasak-{name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[tasak.transports]\n{name} = {module}\n")


@pytest.fixture
def shell() -> Iterator[Shell]:
    with Shell() as made:
        yield made


@pytest.fixture
def site(shell: Shell) -> Site:
    folder = shell.home / "site"
    folder.mkdir()
    shell.env["PYTHONPATH"] = str(folder)
    return Site(folder)


def until(is_so: Callable[[], bool]) -> None:
    """The daemon opens its log while it serves already."""
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def row_of(shell: Shell, name: str) -> list[str]:
    rows = [line.split("\t") for line in shell("plugins").stdout.splitlines()]
    [found] = [row for row in rows if row[0] == name]
    return found


@pytest.mark.slow
def test_a_plugin_that_does_not_load_is_listed_with_the_reason(shell, site):
    site.install("torn", "import nothing_of_that_name")
    shell.configure({"fast": FAST_APP, "theirs": {"transport": "torn"}})

    refused = shell("theirs", "x")

    assert 4 == refused.returncode
    assert "the transport 'torn' cannot be used: ModuleNotFoundError" in refused.stderr
    assert "hello\n" == shell("fast", "echo", "--text", "hello").stdout
    _, version, file, state, reason = row_of(shell, "torn")
    assert ("1.0", str(site.folder / "plugin_torn.py"), "broken") == (version, file, state)
    assert "No module named 'nothing_of_that_name'" in reason


@pytest.mark.slow
@pytest.mark.parametrize(
    ("deed", "told"),
    [
        ("raise RuntimeError('kaput')", "RuntimeError('kaput')"),
        ("sys.exit(7)", "its connect wanted to end the process"),
        ("raise BaseException('far out')", "BaseException('far out')"),
        ("raise ExceptionGroup('two', [ValueError('a'), KeyError('b')])", "ExceptionGroup"),
        ("return object()", "its connect answered object, which has no ended, last_words,"),
    ],
)
def test_a_plugin_that_fails_to_connect_fails_its_own_apps_and_is_named(shell, site, deed, told):
    site.install("wild", PLUGIN % deed)
    shell.configure({"fast": FAST_APP, "theirs": {"transport": "wild"}})
    shell("daemon", "start")

    refused = shell("theirs", "x")

    assert 4 == refused.returncode, refused
    assert told in refused.stderr
    assert "Traceback" not in refused.stderr
    assert "hello\n" == shell("fast", "echo", "--text", "hello").stdout
    assert "failing" == row_of(shell, "wild")[3]
    assert told in row_of(shell, "wild")[4]
    until(lambda: "Traceback" in (shell.home / ".tasak" / "daemon.log").read_text())


@pytest.mark.slow
def test_a_plugin_that_holds_up_the_daemon_is_named_and_others_calls_go_on(shell, site):
    site.install("slow", PLUGIN % "time.sleep(6); raise RuntimeError('at last')")
    shell.configure({"fast": FAST_APP, "theirs": {"transport": "slow"}})
    shell("daemon", "start")
    shell("fast", "echo", "--text", "warm")
    blocker = shell.start("theirs", "x")

    meanwhile = shell("fast", "echo", "--text", "hello")

    assert ("hello\n", 0) == (meanwhile.stdout, meanwhile.returncode)
    blocker.communicate()
    assert "held up the loop" not in meanwhile.stdout
    until(lambda: "the loop is held up" in (shell.home / ".tasak" / "daemon.log").read_text())
    log = (shell.home / ".tasak" / "daemon.log").read_text()
    assert "plugin_slow.py" in log


def test_an_option_that_the_plugin_does_not_know_is_refused_by_name_and_file(shell, site):
    site.install("fine", PLUGIN % "raise AssertionError")
    file = shell.configure({"theirs": {"transport": "fine", "plaec": "x"}})

    refused = shell("theirs", "x")

    assert 2 == refused.returncode
    assert f"app 'theirs' in {file}: unknown key 'plaec'" in refused.stderr
    assert "did you mean 'place'?" in refused.stderr


def test_a_transport_that_there_is_not_lists_those_installed(shell):
    shell.configure({"theirs": {"transport": "carrier-pigeon"}})

    refused = shell("theirs", "x")

    assert 2 == refused.returncode
    assert "there is no transport 'carrier-pigeon'" in refused.stderr
    assert "stdio" in refused.stderr
