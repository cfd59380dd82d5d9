"""Plugins that go on where they are cancelled, and leave tasks and threads: they hold up no caller and no end."""

import pytest

from tests.cli.test_plugins import Site, row_of
from tests.shell import FAST_APP, Shell

pytestmark = pytest.mark.slow

STUBBORN = """
import asyncio, threading, time
from tasak.plugin import hookimpl

async def stay():
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass

class Session:
    pid = protocol_version = server_info = None
    def __init__(self, where):
        self.ended = asyncio.Event()
        self.where = where
    def last_words(self):
        return ()
    async def request(self, method, params=None, *, timeout, on_progress=None):
        if method == "tools/list":
            return {"tools": [{"name": "go", "inputSchema": {"type": "object", "properties": {}}}]}
        if self.where == "request":
            await stay()
        if self.where == "task":
            self.task = asyncio.create_task(stay())
        if self.where == "thread":
            threading.Thread(target=time.sleep, args=(3600,)).start()
        if self.where == "executor":
            asyncio.get_running_loop().run_in_executor(None, time.sleep, 3600)
        if self.where == "every thread":
            for _ in range(100):
                asyncio.get_running_loop().run_in_executor(None, time.sleep, 3600)
        return {"content": [{"type": "text", "text": "gone"}]}

@hookimpl
def transport_schema():
    return {"type": "object", "properties": {"where": {"type": "string"}}, "additionalProperties": False}

@hookimpl
async def connect(app, host):
    if app.options["where"] == "connect":
        await stay()
    return Session(app.options["where"])

@hookimpl
async def ping(session):
    pass

@hookimpl
async def close(session):
    if session.where == "close":
        await stay()
"""


TOO_LONG = "tasak: theirs go: still at work after 1 s\n"
NOT_OPENED = "tasak: theirs: transport stubborn did not answer within 1 s\n"


@pytest.fixture
def site(shell: Shell) -> Site:
    return Site.on_path_of(shell)


@pytest.mark.parametrize("road", [(), ("--no-daemon",)], ids=["daemon", "direct"])
@pytest.mark.parametrize(
    ("where", "status", "stdout", "told"),
    [
        ("connect", 4, "", NOT_OPENED),
        ("request", 6, "", TOO_LONG),
        ("task", 0, "gone\n", ""),
        ("thread", 0, "gone\n", ""),
        ("executor", 0, "gone\n", ""),
        ("every thread", 0, "gone\n", ""),
        ("close", 0, "gone\n", ""),
    ],
)
def test_a_call_has_its_end_and_so_has_the_process(shell, site, road, where, status, stdout, told):
    site.install("stubborn", STUBBORN)
    limits = {"init_timeout": 1, "call_timeout": 1, "call_timeout_max": 1}
    shell.configure({"theirs": {"transport": "stubborn", "where": where, **limits}})

    done = shell(*road, "theirs", "go")
    stopped = shell("daemon", "stop")

    assert (status, stdout) == (done.returncode, done.stdout)
    assert done.stderr.startswith(told)
    assert 0 == stopped.returncode


def test_where_a_plugin_has_taken_every_thread_other_apps_go_on(shell, site):
    site.install("stubborn", STUBBORN)
    shell.configure({"theirs": {"transport": "stubborn", "where": "every thread"}, "fast": FAST_APP})
    shell("theirs", "go")

    counted = [shell("fast", "counter").stdout for _ in range(2)]

    assert ["1\n", "2\n"] == counted


def test_a_request_that_goes_on_is_blamed(shell, site):
    site.install("stubborn", STUBBORN)
    shell.configure({"theirs": {"transport": "stubborn", "where": "request", "call_timeout": 1, "call_timeout_max": 1}})

    shell("theirs", "go")

    assert "failing" == row_of(shell, "stubborn")[3]
    assert "goes on where it is cancelled for theirs" in row_of(shell, "stubborn")[4]
