"""Third parties' plugins that go wrong: only their own apps do, and whoever looks is told."""

import json
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasak.client import client, launcher
from tasak.paths import StateDir
from tests.shell import FAST_APP, PATIENCE, Done, Shell, until

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

# Its exceptions quote the header that it was given, each from the hook that its option `place` names.
TELLTALE = """
import asyncio, threading
from tasak.plugin import hookimpl

class Rejected(Exception):
    pass

def fail(app, hook):
    if app.options["place"] != hook:
        return
    header = f"the header {app.options['header']}"
    try:
        raise KeyError(header)
    except KeyError as problem:
        problem.add_note(header)
        raise ExceptionGroup(header, [Rejected(header), OSError(111, header)]) from problem

async def fail_aside(app):
    fail(app, "task")

def fail_in_thread(app):
    fail(app, "thread")

class Session:
    pid = protocol_version = server_info = None

    def __init__(self, app):
        self.app = app
        self.ended = asyncio.Event()

    def last_words(self):
        return []

    async def request(self, method, params=None, *, timeout, on_progress=None):
        if method == "tools/list":
            fail(self.app, "list")
            return {"tools": [{"name": "go", "inputSchema": {"type": "object"}}]}
        fail(self.app, "request")
        return {"content": []}

@hookimpl
def transport_schema():
    text = {"type": "string"}
    return {"type": "object", "properties": {"place": text, "header": text}, "additionalProperties": False}

@hookimpl
async def connect(app, host):
    fail(app, "connect")
    if app.options["place"] == "task":
        asyncio.create_task(fail_aside(app))
    thread = threading.Thread(target=fail_in_thread, args=[app])
    thread.start()
    thread.join()
    return Session(app)

@hookimpl
async def ping(session):
    fail(session.app, "ping")

@hookimpl
async def close(session):
    fail(session.app, "close")
"""


class Site:
    """A folder of plugins as `pip install` leaves them, on the path of all that the shell starts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def on_path_of(cls, shell: Shell) -> "Site":
        folder = shell.home / "site"
        folder.mkdir()
        shell.env["PYTHONPATH"] = str(folder)
        return cls(folder)

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
    return Site.on_path_of(shell)


def row_of(shell: Shell, name: str) -> list[str]:
    rows = [line.split("\t") for line in shell("plugins").stdout.splitlines()]
    [found] = [row for row in rows if row[0] == name]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("raised", ["KeyboardInterrupt", "GeneratorExit", "SystemExit"])
def test_a_plugin_ends_no_daemon_by_what_it_raises_where_it_is_imported(shell, site, raised):
    site.install("torn", f"raise {raised}")
    shell.configure({"fast": FAST_APP, "theirs": {"transport": "torn"}})
    shell("daemon", "start")
    before = shell.daemon_pid

    refused = shell("theirs", "x")

    assert 4 == refused.returncode
    assert f"the transport 'torn' cannot be used: {raised}\n" in refused.stderr
    assert "hello\n" == shell("fast", "echo", "--text", "hello").stdout
    assert before == shell.daemon_pid


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


SCHEMA = 'return {"type": "object", "properties": {"place": {"type": "string"}}, "additionalProperties": False}'


@pytest.mark.slow
@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ("raise ValueError('kaput')", "its transport_schema raised ValueError"),
        ("return {'required': ('place',)}", "$.required: ('place',) is not of type 'array'"),
        ("return {'properties': {1: {}}}", "$.properties: 1 is no string"),
        ("return {'$schema': []}", "TypeError: unhashable type: 'list'"),
    ],
)
def test_a_plugin_without_a_schema_is_listed_with_the_reason_that_its_apps_are_told(shell, site, schema, reason):
    site.install("mute", (PLUGIN % "raise AssertionError").replace(SCHEMA, schema))
    shell.configure({"theirs": {"transport": "mute", "place": "x"}})

    refused = shell("theirs", "x")
    examined = shell("doctor")

    assert 4 == refused.returncode
    assert reason in refused.stderr
    assert "broken" == row_of(shell, "mute")[3]
    assert reason in row_of(shell, "mute")[4]
    assert reason in examined.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("deed", "told"),
    [
        ("raise RuntimeError('kaput')", "RuntimeError"),
        ("sys.exit(7)", "its connect wanted to end the process"),
        ("raise BaseException('far out')", "BaseException"),
        ("raise ExceptionGroup('two', [ValueError('a'), KeyError('b')])", "ExceptionGroup of ValueError, KeyError"),
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


# Its session has what the app's option `member` says, and is closed by a line in the file `closed`.
UNFIT = """
import asyncio, threading
from tasak.plugin import OutcomeUnknown, hookimpl

MEMBERS = {
    "ended": {"ended": threading.Event()},
    "pid": {"pid": "12"},
    "protocol_version": {"protocol_version": 2},
    "server_info": {"server_info": {"name": {"a", "set"}}},
    "last_words": {"last_words": "a line"},
}

class Session:
    pid = protocol_version = server_info = None

    def __init__(self, members):
        self.ended = asyncio.Event()
        self.__dict__.update(members)

    def last_words(self):
        raise SystemExit("no words")

    async def request(self, method, params=None, *, timeout, on_progress=None):
        if method == "tools/list":
            return {"tools": [{"name": "go", "inputSchema": {"type": "object", "properties": {}}}]}
        raise OutcomeUnknown("it is not known")

@hookimpl
def transport_schema():
    text = {"type": "string"}
    return {"type": "object", "properties": {"member": text, "closed": text}, "additionalProperties": False}

@hookimpl
async def connect(app, host):
    made = Session(MEMBERS.get(app.options["member"], {}))
    made.closed = app.options["closed"]
    return made

@hookimpl
async def ping(session):
    pass

@hookimpl
async def close(session):
    open(session.closed, "a").close()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("member", "told"),
    [
        ("ended", "ended is no asyncio.Event"),
        ("pid", "pid is neither a process id nor None"),
        ("protocol_version", "protocol_version is neither a string nor None"),
        ("server_info", "server_info is neither a JSON object nor None"),
        ("last_words", "last_words is no method"),
    ],
)
def test_a_session_with_a_member_of_another_kind_is_closed_and_breaks_only_its_own_app(shell, site, member, told):
    site.install("unfit", UNFIT)
    closed = shell.home / "closed"
    shell.configure({"fast": FAST_APP, "theirs": {"transport": "unfit", "member": member, "closed": str(closed)}})
    shell("fast", "echo", "--text", "hello")

    refused = shell("theirs", "go")

    assert 4 == refused.returncode
    assert f"its connect answered Session, whose {told}" in refused.stderr
    assert closed.exists()
    assert "fast" in shell("connections").stdout
    assert told in row_of(shell, "unfit")[4]


@pytest.mark.slow
def test_last_words_that_fail_change_nothing_of_what_is_told(shell, site):
    site.install("unfit", UNFIT)
    closed = str(shell.home / "closed")
    shell.configure({"theirs": {"transport": "unfit", "member": "none", "closed": closed}})

    lost = shell("theirs", "go")
    pinged = shell("ping", "--deep", "theirs")

    assert (6, "tasak: theirs go: it is not known\n  it may have run: look before you repeat it\n") == (
        lost.returncode,
        lost.stderr,
    )
    assert 0 == pinged.returncode
    assert "failed with SystemExit in last_words" in row_of(shell, "unfit")[4]


PLACES = ("connect", "list", "request", "ping", "close", "task", "thread")
THEIR_KIND = "ExceptionGroup of plugin_telltale.Rejected, ConnectionRefusedError"


def configure_telltales(shell: Shell, site: Site, *places: str) -> str:
    """An app for each place where it fails; the secret that they have."""
    canary = f"canary-{secrets.token_hex(8)}"
    site.install("telltale", TELLTALE)
    shell.env |= {"THEIR_TOKEN": canary, "TASAK_DAEMON_LOG_LEVEL": "DEBUG"}
    shell.configure(
        {
            f"at-{place}": {"transport": "telltale", "place": place, "header": "Bearer ${THEIR_TOKEN}"}
            for place in places
        }
    )
    return canary


@pytest.mark.slow
def test_the_text_of_a_plugin_s_exception_is_told_nowhere_and_its_kind_and_place_are(shell, site):
    canary = configure_telltales(shell, site, *PLACES)
    said: list[Done] = []

    def run(*words: str) -> Done:
        said.append(shell(*words))
        return said[-1]

    calls = {place: run(f"at-{place}", "go") for place in PLACES}
    run("--json", "at-request", "go")
    run("--json", "at-connect")
    run("--no-daemon", "at-request", "go")
    run("--no-daemon", "at-thread", "go")
    pinged = run("ping", "--deep", "at-ping", "--json")
    [closing] = [
        each for each in json.loads(run("connections", "--json").stdout)["connections"] if each["app"] == "at-close"
    ]
    delete(shell, f"/connections/{closing['id']}")
    log = shell.home / ".tasak" / "daemon.log"
    until(
        lambda: all(
            f", in {hook}" in text_of(log) for hook in ("connect", "request", "close", "fail_aside", "fail_in_thread")
        )
    )
    run("connections", "--json")
    plugins = run("plugins")
    run("daemon", "status", "--json")
    run("daemon", "logs")

    assert {"connect": 4, "list": 4, "request": 6, "ping": 0, "close": 0, "task": 0, "thread": 0} == {
        place: call.returncode for place, call in calls.items()
    }
    for place in ("connect", "list", "request"):
        assert f": {THEIR_KIND}" in calls[place].stderr
        assert "`tasak daemon logs` shows where it failed" in calls[place].stderr
    assert "it may have run: look before you repeat it" in calls["request"].stderr
    assert "may have run" not in calls["list"].stderr + calls["connect"].stderr
    assert THEIR_KIND in pinged.stdout
    assert THEIR_KIND in plugins.stdout
    assert [] == [done.args for done in said if canary in done.stdout + done.stderr]
    assert [] == holders_of(canary, shell.home / ".tasak")


@pytest.mark.slow
def test_whoever_asks_for_it_with_debug_gets_the_text_of_a_plugin_s_exception(shell, site):
    """So that the other test would see one."""
    canary = configure_telltales(shell, site, "connect", "request")

    for place in ("connect", "request"):
        assert canary in shell("--debug", f"at-{place}", "go").stderr
    assert [] == holders_of(canary, shell.home / ".tasak")


def delete(shell: Shell, path: str) -> None:
    connection = launcher.connect(StateDir(shell.home / ".tasak"))
    assert connection
    assert 200 == client.ask(connection, "DELETE", path, timeout=PATIENCE)[0]


def text_of(log: Path) -> str:
    return log.read_text() if log.exists() else ""


def holders_of(canary: str, folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and canary in path.read_text(errors="replace")]


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
