"""A secret in each place where one is handled, and a look into each place where none may be seen."""

import asyncio
import base64
import json
import os
import resource
import secrets
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasak.testing import HttpServer
from tests.auth.authorization_server import AuthorizationServer, protected_server
from tests.shell import FAST_APP, PATIENCE, STDIO_SERVER, Done, Shell

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

POLL_INTERVAL = 0.01

# What stands in the environment of an app's program by itself, where the daemon has it.
DOCUMENTED = {"HOME", "USER", "LOGNAME", "SHELL", "TERM", "LANG", "PATH", "TASAK_TREE"}

# As npx would, it becomes the package's program: one that says that it is established, and serves.
NPX = f"""#!/bin/sh
echo 'Proxy established successfully between local STDIO and remote' >&2
exec {sys.executable} -I -S {STDIO_SERVER}
"""


class Canaries:
    """Strings that are nowhere else, by the place that each is put in."""

    def __init__(self) -> None:
        self._made: dict[str, str] = {}

    def __call__(self, place: str) -> str:
        return self._made.setdefault(place, f"canary-{secrets.token_hex(8)}")

    def add(self, place: str, secret: str) -> None:
        """Take a secret that somebody else has made for one of ours."""
        self._made[place] = secret

    def seen_in(self, text: str, *, but: str = "") -> list[str]:
        """The places of those that are to be seen in it, also in the form of basic authentication."""
        return [
            place
            for place, secret in self._made.items()
            if place != but and (secret in text or as_basic(secret) in text)
        ]


def as_basic(secret: str) -> str:
    return base64.b64encode(f"user:{secret}".encode()).decode()


class Household:
    """A user whose apps and environment are full of secrets, and all that they and others get to see."""

    def __init__(self, shell: Shell, server: HttpServer, level: str = "INFO") -> None:
        self.shell = shell
        self.canary = Canaries()
        self.seen: list[tuple[str, str]] = []
        """What was looked at, and what was there."""
        self.port = free_port()
        shell.env |= {
            "PATH": f"{self._programs()}:{shell.env['PATH']}",
            "TASAK_DAEMON_LOG_LEVEL": level,
            "TASAK_DAEMON_PORT": str(self.port),
            "AWS_SECRET_ACCESS_KEY": self.canary("whoever starts the daemon"),
            "PROG_TOKEN": self.canary("variable of a program"),
            "FAR_KEY": self.canary("variable of a header"),
            "BEARER_TOKEN": self.canary("variable of a token"),
            "TWO_LINES": f"a\n{self.canary('variable of two lines')}",
        }
        self.apps = self._apps(server)
        shell.configure(self.apps)
        secret = shell.home / ".tasak" / "secret"
        secret.write_text(self.canary("file"))
        secret.chmod(0o600)

    def _programs(self) -> Path:
        folder = self.shell.home / "bin"
        folder.mkdir()
        for name in ("npx", "node"):
            (folder / name).write_text(NPX)
            (folder / name).chmod(0o700)
        return folder

    def _apps(self, server: HttpServer) -> dict[str, Any]:
        canary = self.canary
        env = {"A": "${PROG_TOKEN}", "B": canary("literal value of a program"), "C": "x ${file:secret}"}
        headers = {"X-Api-Key": "${FAR_KEY}", "X-Literal": canary("literal header")}
        inside = f"user:{canary('userinfo')}@"
        query = f"?key={canary('query')}"
        return {
            "prog": {**FAST_APP, "env": env},
            "other": FAST_APP,
            "far": {"url": f"http://{inside}127.0.0.1:{server.port}/mcp{query}", "headers": headers},
            "events": {"transport": "sse", "url": f"{server.sse_url}{query}", "headers": headers},
            "bearer": {"url": server.url, "auth": {"type": "bearer", "token": "${BEARER_TOKEN}"}},
            "remote": {"transport": "mcp-remote", "url": "http://127.0.0.1:1/mcp", "headers": headers, "env": env},
            # These fail, each in its own way.
            "away": {"url": f"http://{inside}127.0.0.1:1/mcp{query}", "headers": headers},
            "nowhere": {"url": f"http://{inside}127.0.0.1:{server.port}/nowhere{query}", "headers": headers},
            "no-url": {"url": f"http://{inside}[::bad/mcp{query}", "headers": headers},
            "no-port": {"transport": "sse", "url": f"http://{inside}127.0.0.1:99999/mcp{query}"},
            "missing": {"command": ["no-such-program", "${PROG_TOKEN}"], "env": env},
            "dying": {"command": ["/bin/sh", "-c", "exit 3", "${PROG_TOKEN}"], "env": env},
            "silent": {"command": ["/bin/sh", "-c", "sleep 60", "${PROG_TOKEN}"], "env": env, "init_timeout": 0.5},
            "a-list": {"url": server.url, "headers": {"X-Key": [canary("header that is a list")]}},
            "a-mapping": {"command": "x", "env": {"KEY": {canary("key of a value"): canary("value of a mapping")}}},
            "two-lines": {"url": server.url, "headers": {"X-Key": "${TWO_LINES}"}},
            "no-token": {"url": server.url, "auth": {"type": "bearer", "token": "${TWO_LINES}"}},
            "a-path": {"url": server.url, "auth": {"type": "bearer", "token_file": "${BEARER_TOKEN}"}},
            "in-url": {"transport": "mcp-remote", "url": "http://127.0.0.1:1/mcp?key=${FAR_KEY}"},
            "in-userinfo": {"transport": "mcp-remote", "url": f"http://{inside}127.0.0.1:1/mcp"},
            "unset": {**FAST_APP, "env": {**env, "D": "${NOT_SET}"}},
        }

    async def run(self, *words: str, but: str = "", **env: str) -> Done:
        """Run the command, and look at what it says. Only the secret of the place `but` may be there."""
        done = await asyncio.to_thread(self.shell, *words, **env)
        shown = done.stdout + done.stderr
        self.look(f"tasak {' '.join(words)}", shown.replace(self.canary(but), "") if but else shown)
        return done

    def look(self, where: str, text: str) -> None:
        self.seen.append((where, text))

    def look_at_files(self) -> None:
        """All that is in the state folder, but what is there to hold secrets."""
        state = self.shell.home / ".tasak"
        holders = {state / "tasak.yaml", state / "secret", state / "daemon.token"}
        for path in sorted(state.rglob("*")):
            if path.is_file() and path not in holders and path.parent != state / "auth":
                self.look(str(path.relative_to(state)), path.read_text(errors="replace"))

    def look_at_processes(self) -> None:
        """Command lines, which everybody on the machine can read. Words of the config's own are the user's to answer
        for; none of these programs runs any more."""
        for line in self.shell.processes():
            self.look("ps", line)

    def leaks(self) -> list[str]:
        return [f"{where}: {place}" for where, text in self.seen for place in self.canary.seen_in(text)]

    @property
    def daemon(self) -> psutil.Process:
        return psutil.Process(self.shell.daemon_pid)

    async def token(self) -> str:
        """The daemon's, which says that it is ready a moment before."""
        file = self.shell.home / ".tasak" / "daemon.token"
        await until(file.exists)
        return file.read_text().strip()

    async def raw(self, request: bytes, *, over_tcp: bool = False, but: str = "") -> int:
        """Send bytes to the daemon, and look at the answer; its status."""
        answer = (await asyncio.to_thread(self._exchange, request, over_tcp)).decode(errors="replace")
        self.look(f"the answer to {request[:40]!r}", answer.replace(self.canary(but), "") if but else answer)
        return int(answer.split()[1])

    def _exchange(self, request: bytes, over_tcp: bool) -> bytes:
        path = str(self.shell.home / ".tasak" / "daemon.sock")
        with socket.socket(socket.AF_INET if over_tcp else socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(("127.0.0.1", self.port) if over_tcp else path)
            connection.sendall(request)
            answer = b""
            while piece := connection.recv(1 << 16):
                answer += piece
        return answer


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def post(path: str, body: Any, *headers: str) -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
        "Connection: close",
        "Content-Type: application/json",
        *headers,
    ]
    return "\r\n".join([*lines, f"Content-Length: {len(content)}", "", ""]).encode() + content


def get(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close", *headers, "", ""]).encode()


async def until(holds: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "it did not come to hold"
        await asyncio.sleep(POLL_INTERVAL)


@pytest.fixture
async def server() -> AsyncIterator[HttpServer]:
    async with HttpServer() as made:
        yield made


@pytest.fixture
async def home() -> AsyncIterator[Shell]:
    stack = ExitStack()
    try:
        yield stack.enter_context(Shell())
    finally:
        # The servers are in our loop, and a daemon that ends says goodbye to them.
        await asyncio.to_thread(stack.close)


# What a caller may read, and whether the answer may have an argument in it: that of `call-1` has its result.
READING: Mapping[str, str] = {
    "/health": "",
    "/apps": "",
    "/connections": "",
    "/metrics": "",
    "/outcomes/call-1": "argument",
    "/outcomes/call-2": "",
    "/apps/prog/ping?deep=true": "",
}
COMMANDS: Mapping[tuple[str, ...], str] = {
    (): "",
    ("connections",): "",
    ("metrics",): "",
    ("daemon", "status"): "",
    ("daemon", "logs"): "",
    ("plugins",): "",
    ("doctor",): "",
    ("outcome", "call-1"): "argument",
    ("outcome", "call-2"): "",
    ("auth", "status"): "",
}


@pytest.mark.parametrize("level", ["INFO", "DEBUG"])
async def test_no_secret_of_a_config_or_a_caller_is_seen_anywhere(home, server, level):
    household = Household(home, server, level)
    argument = household.canary("argument")

    await call_each_app(household, argument)
    if level == "DEBUG":
        await call_directly(household, argument)
    token = await household.token()
    household.canary.add("token of the daemon", token)
    await make_mistakes(household, argument)
    await send_what_is_no_request(household)
    await read_everything(household, token)
    household.look_at_processes()
    household.look_at_files()

    assert {"daemon.log", "outcomes.jsonl", "logs/prog.log"} <= {where for where, _ in household.seen}
    assert [] == household.leaks()


async def test_a_secret_that_is_told_is_found(home, server):
    """So that the others would see one."""
    household = Household(home, server)
    canary = household.canary("argument")

    await household.run("prog", "environment")
    await household.run("prog", "complain", "--text", canary, but="argument")
    household.look_at_files()

    assert [
        "tasak prog environment: variable of a program",
        "tasak prog environment: literal value of a program",
        "tasak prog environment: file",
        "logs/prog.log: argument",
    ] == [leak for leak in household.leaks() if not leak.startswith("tasak prog complain")]


async def call_each_app(household: Household, argument: str) -> None:
    """What an app's answer is to a call, to a question how it is, and to whoever wants its tools."""
    answered = []
    for app in household.apps:
        done = await household.run(app, "echo", "--text", argument, but="argument")
        answered += [app] * (done.returncode == 0)
        await household.run("--json", app, "echo", "--args", json.dumps({"text": argument}), but="argument")
        await household.run(app)
        await household.run("ping", "--deep", app)
        await household.run("--json", "ping", "--deep", "--start", app)
    assert ["prog", "other", "far", "events", "bearer", "remote"] == answered


async def call_directly(household: Household, argument: str) -> None:
    """Without the daemon, and with all that is told to whoever looks for a bug: tracebacks."""
    for app in ("prog", "far", "away", "nowhere", "missing", "dying", "two-lines", "no-token", "a-list"):
        for road in ("--no-daemon", "--debug"):
            await household.run(road, app, "echo", "--text", argument, but="argument")


async def make_mistakes(household: Household, argument: str) -> None:
    """Arguments that are not taken, a tool that fails, and calls that are written down."""
    await household.run("--call-id", "call-1", "prog", "echo", "--text", argument, but="argument")
    await household.run("--call-id", "call-2", "prog", "sleep", "--seconds", argument, but="argument")
    await household.run("--call-id", "call-3", "prog", "echo", "--args", json.dumps([argument]), but="argument")
    await household.run("prog", "die", "--status", "3")
    await household.run("prog", "refuse", "--code", "1")
    await household.run("--timeout", "0.2", "prog", "sleep", "--seconds", "9")
    env = {"MORE": household.canary("env of a body"), **household.shell.env}
    body = {"tool": "echo", "arguments": {"text": "x"}, "env": env}
    assert 200 == await household.raw(post("/tools/call/prog", body))
    for more in ({"bogus": 1}, {"timeout": "x"}, {"env": {"A": [env["MORE"]]}}, {"cwd": "x"}):
        assert 400 == await household.raw(post("/tools/call/prog", {**body, **more}))
    assert 400 == await household.raw(post("/tools/call/prog", json.dumps(body).encode()[:-1]))


async def send_what_is_no_request(household: Household) -> None:
    odd = household.canary("malformed header")
    for over_tcp in (False, True):
        for line in (f"Authorization: Bearer {odd}\x01", f"Authorization Bearer {odd}", f"X-{odd}\x00: 1"):
            assert 400 == await household.raw(get("/health", line), over_tcp=over_tcp)
        assert 400 == await household.raw(f"{odd} / HTTP/1.1\r\n\r\n".encode(), over_tcp=over_tcp)
        assert 200 == await household.raw(get("/health", f"Authorization: Bearer {odd}"), over_tcp=over_tcp)
        assert await household.raw(get(f"/health?token={odd}"), over_tcp=over_tcp) in (200, 400)
    assert 401 == await household.raw(get("/connections", f"Authorization: Bearer {odd}"), over_tcp=True)


async def read_everything(household: Household, token: str) -> None:
    """All routes and commands that only tell, and what the daemon says of itself when it is asked by a signal."""
    for path, but in READING.items():
        for headers in ((), ("Accept: application/json",)):
            assert 200 == await household.raw(get(path, *headers), but=but)
        assert 200 == await household.raw(get(path, f"Authorization: Bearer {token}"), over_tcp=True, but=but)
    await look_at_what_is_told(household)


async def look_at_what_is_told(household: Household) -> None:
    for words, but in COMMANDS.items():
        await household.run(*words, but=but)
        await household.run("--json", *words, but=but)
    os.kill(household.shell.daemon_pid, signal.SIGUSR1)
    log = household.shell.home / ".tasak" / "daemon.log"
    await until(lambda: "asked what it does" in log.read_text())


async def test_none_is_in_a_log_that_was_rotated(home, server):
    household = Household(home, server, "DEBUG")
    argument = household.canary("argument")
    log = home.home / ".tasak" / "daemon.log"

    while not log.with_name("daemon.log.1").exists():
        for app in ("far", "away", "prog", "missing"):
            await household.run(app, "echo", "--text", argument, but="argument")
        await household.raw(get("/health", f"Authorization: Bearer {household.canary('malformed header')}\x01"))
        for _ in range(50):
            size = log.stat().st_size
            os.kill(home.daemon_pid, signal.SIGUSR1)
            await until(lambda size=size: log.stat().st_size != size)
    household.look_at_files()

    assert "daemon.log.1" in {where for where, _ in household.seen}
    assert [] == household.leaks()


async def test_none_is_in_what_is_kept_of_a_daemon_that_does_not_start(home, server):
    household = Household(home, server)
    home.env["TASAK_DAEMON_LOG_LEVEL"] = "nonsense"

    await household.run("prog", "echo", "--text", household.canary("argument"), but="argument")
    await household.run("daemon", "start")
    await household.run("daemon", "status")
    household.look_at_files()

    assert "start.failed" in {where for where, _ in household.seen}
    assert [] == household.leaks()


async def test_no_token_of_a_sign_in_is_seen_anywhere(home):
    """The whole of one, with a client that the authorization server registers, and one that was registered by hand."""
    authority = AuthorizationServer()
    by_hand = secrets.token_hex(8)
    authority.register("by-hand", by_hand)
    async with protected_server(authority, is_separate=True) as server:
        household = Household(home, server_of_nothing(), "DEBUG")
        canary = household.canary
        canary.add("client secret of the config", by_hand)
        auth = {"type": "oauth", "client_id": "by-hand", "client_secret": "${BY_HAND}", "issuer": authority.issuer}
        home.env |= {"BROWSER": f"{browser(home)} %s", "BY_HAND": by_hand}
        home.configure({"notes": {"url": server.url, "auth": "oauth"}, "mine": {"url": server.url, "auth": auth}})

        for app in ("notes", "mine"):
            await household.run(app, "rights")
            done = await household.run("auth", "login", app)
            assert 0 == done.returncode, done.stderr
            assert 0 == (await household.run(app, "rights")).returncode
        authority.expire()
        for app in ("notes", "mine"):
            assert 0 == (await household.run(app, "rights")).returncode
            await household.run("--debug", app, "rights")
        for number, token in enumerate([*authority.access, *authority.refresh, *authority.spent]):
            canary.add(f"token {number}", token)
        for path in (home.home / ".tasak" / "auth").glob("*.json"):
            for login in json.loads(path.read_text())["logins"]:
                canary.add("access token", login["token"]["access_token"])
                canary.add("refresh token", login["token"]["refresh_token"])
                if secret := login["client"].get("client_secret"):
                    canary.add("client secret of a registration", secret)
        await look_at_what_is_told(household)
        # Neither is taken any more, and each failure is told.
        authority.expire()
        authority.refresh.clear()
        for app in ("notes", "mine"):
            assert 3 == (await household.run(app, "rights")).returncode
            await household.run("--debug", app, "rights")
            await household.run("auth", "logout", app)
        household.look_at_processes()
        household.look_at_files()

    assert [] == household.leaks()


def browser(home: Shell) -> Path:
    """A command that opens a page, without a word about it."""
    program = home.home / "browser"
    program.write_text(f"#!{sys.executable}\nimport sys, urllib.request\nurllib.request.urlopen(sys.argv[1]).read()\n")
    program.chmod(0o700)
    return program


def server_of_nothing() -> Any:
    """Stands for a server that no app of the test has."""

    class Nothing:
        port, url, sse_url = 1, "http://127.0.0.1:1/mcp", "http://127.0.0.1:1/sse"

    return Nothing()


# ── what a program gets ──────────────────────────────────────────────────────────────────────────────────────────


async def test_a_program_gets_the_environment_that_is_documented_and_what_its_config_names(home, server):
    household = Household(home, server)

    for app in ("other", "prog"):
        assert 0 == (await household.run(app, "echo", "--text", "x", EVERYBODY="x", TASAK_SESSION="")).returncode
    other, prog = programs(household)

    base = DOCUMENTED & set(home.env) | {"TASAK_TREE"}
    assert base == set(other.environ())
    assert base | {"A", "B", "C"} == set(prog.environ())
    assert [] == household.canary.seen_in(json.dumps(other.environ()))
    assert {"variable of a program", "literal value of a program", "file"} == set(
        household.canary.seen_in(json.dumps(prog.environ()))
    )


async def test_a_program_has_three_descriptors_and_no_secret_in_its_command_line(home, server):
    household = Household(home, server)

    # One after the other, so that the last could have those of the others, and of the log and the lock.
    for app in ("prog", "far", "other", "remote"):
        assert 0 == (await household.run(app, "echo", "--text", "x")).returncode

    found = programs(household)
    assert 3 == len(found)
    assert [{"0", "1", "2"}] * 3 == [set(os.listdir(f"/proc/{each.pid}/fd")) for each in found]
    household.look_at_processes()
    assert [] == household.leaks()


@pytest.fixture
def cores() -> Iterator[int]:
    """A user whose programs leave cores of any size that the machine allows: that size."""
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
    yield before[1]
    resource.setrlimit(resource.RLIMIT_CORE, before)


async def test_neither_the_daemon_nor_a_program_leaves_a_core_and_a_program_may_raise_its_limit(home, server, cores):
    household = Household(home, server)
    raising = 'ulimit -c $(ulimit -H -c) && exec "$@"'
    home.configure({"other": FAST_APP, "raised": {"command": ["/bin/sh", "-c", raising, "sh", *FAST_APP["command"]]}})

    for app in ("other", "raised"):
        assert 0 == (await household.run(app, "echo", "--text", "x")).returncode

    other, raised = programs(household)
    assert (0, cores) == household.daemon.rlimit(psutil.RLIMIT_CORE)
    assert (0, cores) == other.rlimit(psutil.RLIMIT_CORE)
    assert (cores, cores) == raised.rlimit(psutil.RLIMIT_CORE)
    daemon = household.daemon
    places = [Path(each.cwd()) for each in (daemon, other)]
    before = [sorted(place.glob("*core*")) for place in places]
    for each in (other, daemon):
        each.send_signal(signal.SIGABRT)
    await until(lambda: not daemon.is_running() or daemon.status() == psutil.STATUS_ZOMBIE)
    assert before == [sorted(place.glob("*core*")) for place in places]


def programs(household: Household) -> list[psutil.Process]:
    """Those that the daemon has started, oldest first."""
    return sorted(household.daemon.children(), key=lambda each: each.create_time())


async def test_another_caller_s_value_goes_to_a_program_of_its_own_and_never_to_this_one(home, server):
    household = Household(home, server)

    async def told(value: str) -> str:
        done = await asyncio.to_thread(home, "prog", "environment", PROG_TOKEN=value)
        return str(json.loads(done.stdout)["A"])

    assert ["first", "second", "first"] == [await told(value) for value in ("first", "second", "first")]
    assert 2 == len(programs(household))


# ── what a server elsewhere gets ─────────────────────────────────────────────────────────────────────────────────


async def test_nothing_of_a_caller_goes_to_a_server_but_what_the_app_s_config_names(home, server):
    """Not the headers of a request to the daemon, not its token, not the caller's environment."""
    household = Household(home, server)
    canary = household.canary
    await household.run("daemon", "start")
    token = await household.token()
    canary.add("token of the daemon", token)
    headers = [f"{name}: {canary(f'caller header {name}')}" for name in ("Cookie", "X-Api-Key", "Proxy-Authorization")]
    body = {"tool": "echo", "arguments": {"text": "x"}, "env": {**home.env, "HTTP_PROXY": "http://127.0.0.1:1"}}

    for app in ("far", "events", "bearer"):
        request = post(f"/tools/call/{app}", body, f"Authorization: Bearer {token}", *headers)
        assert 200 == await household.raw(request, over_tcp=True)

    sent = [f"{each.path} {dict(each.headers)} {each.message}" for each in server.requests]
    assert {"literal header", "variable of a header", "userinfo", "variable of a token"} == {
        place for each in sent for place in canary.seen_in(each)
    }


async def test_one_app_s_token_is_not_shown_for_another_app_of_the_same_server(home, server):
    household = Household(home, server)

    for app in ("bearer", "events"):
        assert 0 == (await household.run(app, "echo", "--text", "x")).returncode

    sent = [(each.path == "/mcp", household.canary.seen_in(str(dict(each.headers)))) for each in server.requests]
    assert {"variable of a token"} == {place for is_bearers, places in sent if is_bearers for place in places}
    assert {"variable of a header", "literal header"} == {
        place for is_bearers, places in sent if not is_bearers for place in places
    }
