"""`tasak doctor`: each thing that may be wrong is found, with what mends it; and where nothing is, it says so."""

import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import tasak
from tasak.core.doctor import daemon, installation, packages
from tasak.core.doctor.files import of_room
from tasak.paths import StateDir
from tests.reliability.world import World
from tests.shell import FAST_APP, Shell

Line = tuple[str, str, str]


def examined(shell: Shell, **env: str) -> list[Line]:
    """What `tasak doctor` finds."""
    done = shell("doctor", **env)
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert ("", 2) == (done.stderr, done.returncode), done.stdout
    return [(check, what, fix) for check, what, fix in lines]


def of(check: str, found: list[Line]) -> list[tuple[str, str]]:
    return [(what, fix) for name, what, fix in found if name == check]


@contextmanager
def listener() -> Iterator[int]:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        made.listen()
        yield made.getsockname()[1]


def test_where_nothing_is_wrong_it_says_so_and_starts_nothing(shell):
    shell.configure({"fast": FAST_APP})

    done = shell("doctor")

    assert (0, "nothing is wrong\n", "") == (done.returncode, done.stdout, done.stderr)
    assert ["tasak.yaml"] == [path.name for path in (shell.home / ".tasak").iterdir()]
    assert {"findings": []} == shell.json("doctor")


def test_each_app_that_would_not_get_as_far_as_its_server_is_named(shell):
    own = shell.configure(
        {
            "fast": FAST_APP,
            "away": {"command": "no-such-program --flag"},
            "unset": {"url": "https://example.com/mcp", "headers": {"X-Key": "${NO_SUCH_KEY}"}},
            "wrong": {"command": "env", "comand": "env"},
            "unknown": {"transport": "stdioo", "command": "env"},
            "off": {"command": "no-such-program", "disabled": True},
        }
    )
    shell.env["PATH"] = "/usr/bin:/bin"
    where = {name: f"app '{name}' in {own}" for name in ("away", "unset", "wrong", "unknown")}

    found = of("app", examined(shell))

    assert [
        (
            f"{where['away']}: there is no program 'no-such-program'",
            "install it, or put its folder on PATH, which is '/usr/bin:/bin'",
        ),
        (f"{where['unknown']}: there is no transport 'stdioo'", "did you mean 'stdio'?"),
        (
            f"{where['unset']}: the environment variable NO_SUCH_KEY is not set",
            "set it, or write ${NO_SUCH_KEY:-default}",
        ),
        (f"{where['wrong']}: unknown key 'comand'", "did you mean 'command'?"),
    ] == found


@pytest.mark.slow
def test_what_mcp_remote_and_steps_need_is_looked_for(shell):
    own = shell.configure(
        {
            "remote": {"transport": "mcp-remote", "url": "https://example.com/mcp"},
            "made": {"transport": "curated", "tools": {"t": {"steps": [{"command": ["no-such-program", "${HOME}"]}]}}},
        }
    )
    (shell.home / "bin").mkdir()
    (shell.home / "bin" / "tasak").symlink_to(Path(sys.executable).with_name("tasak"))
    shell.env["PATH"] = str(shell.home / "bin")

    found = of("app", examined(shell))

    node = "install Node.js 18 or newer (https://nodejs.org), or mend PATH"
    assert [
        (f"app 'made' in {own}: there is no program 'no-such-program' on PATH", "install it, or mend PATH"),
        (f"app 'remote' in {own}: there is no program 'node' on PATH", node),
        (f"app 'remote' in {own}: there is no program 'npx' on PATH", node),
    ] == found


@pytest.mark.slow
def test_a_token_that_others_can_read_is_named_and_not_shown(shell):
    token = shell.home / "token"
    token.write_text("a-secret")
    token.chmod(0o644)
    auth = {"type": "bearer", "token_file": str(token)}
    own = shell.configure({"remote": {"url": "https://example.com/mcp", "auth": auth}})

    (found,) = examined(shell)

    assert ("app", f"app 'remote' in {own}: the token file can be used by others (mode 644): {token}") == found[:2]
    assert f"chmod 600 {token}" == found[2]


NPM_FIX = "write some-server@VERSION; `npm view some-server version` says the newest"
SCOPED_FIX = "write @a/server@VERSION; `npm view @a/server version` says the newest"
PYTHON_FIX = "write some-server==VERSION; `pip index versions some-server` lists them"
PINNED = "write npx -y mcp-remote@0.15.1"


@pytest.mark.parametrize(
    ("command", "what", "fix"),
    [
        ("npx some-server", "npx runs whatever version of some-server is the newest", NPM_FIX),
        ("/usr/bin/npx -y some-server .", "npx runs whatever version of some-server is the newest", NPM_FIX),
        ("npx -y some-server@latest", "npx runs whatever version of some-server is the newest", NPM_FIX),
        ("npx -y some-server@^1.2.3", "npx runs whatever version of some-server is the newest", NPM_FIX),
        ("npx -y some-server@1", "npx runs whatever version of some-server is the newest", NPM_FIX),
        ("npx -y -- @a/server", "npx runs whatever version of @a/server is the newest", SCOPED_FIX),
        ("npx --package=@a/server start", "npx runs whatever version of @a/server is the newest", SCOPED_FIX),
        (
            "npx --registry https://r.example some-server",
            "npx runs whatever version of some-server is the newest",
            NPM_FIX,
        ),
        ("npm exec -y some-server", "npm exec runs whatever version of some-server is the newest", NPM_FIX),
        ("npx github:a/b", "npx runs whatever is newest in github:a/b", "write #COMMIT behind it"),
        ("npx -y mcp-remote https://x", "npx runs whatever version of mcp-remote is the newest", PINNED),
        (
            "npx -y mcp-remote@0.1.15 https://x",
            "mcp-remote@0.1.15 lets a server run commands here (CVE-2025-6514)",
            PINNED,
        ),
        ("uvx some-server", "uvx runs whatever version of some-server is the newest", PYTHON_FIX),
        ("uvx some-server@latest", "uvx runs whatever version of some-server is the newest", PYTHON_FIX),
        ("uvx --python 3.12 some-server[x]", "uvx runs whatever version of some-server is the newest", PYTHON_FIX),
        ("uvx --from some-server>=1 start", "uvx runs whatever version of some-server is the newest", PYTHON_FIX),
        ("uvx --from some-server==1.* start", "uvx runs whatever version of some-server is the newest", PYTHON_FIX),
        ("uv tool run some-server", "uv tool run runs whatever version of some-server is the newest", PYTHON_FIX),
        ("pipx run some-server", "pipx run runs whatever version of some-server is the newest", PYTHON_FIX),
        (
            "uvx --from git+https://x.example/a start",
            "uvx runs whatever is newest in git+https://x.example/a",
            "write @COMMIT behind it",
        ),
        (
            "npx git+https://me:p?ss@x.example/a?key=k",
            "npx runs whatever is newest in git+https://x.example/a",
            "write #COMMIT behind it",
        ),
    ],
)
def test_a_command_that_runs_whatever_is_newest_is_told_how_to_name_a_version(command, what, fix):
    (found,) = packages.findings(command.split(), "app")

    assert ("package", f"app: {what}", fix) == (found.check, found.what, found.fix)


@pytest.mark.parametrize(
    "command",
    [
        "npx -y some-server@1.2.3",
        "npx -y @a/server@2026.8.31 .",
        "npx -p some-server@1.2.3-rc.1 start newest",
        "npx -y mcp-remote@0.1.16 https://x",
        "npx -y some-server@${VERSION}",
        "npx ./server",
        "npx github:a/b#0123abcdef",
        "npx -c start",
        "uvx some-server@1.2",
        "uvx some-server[x]==1.2.3 --port 1",
        "uvx --from some-server==1.2 start",
        "uvx --from git+https://x.example/a@0123456789abcdef0123456789abcdef01234567 start",
        "uvx --from /srv/server start",
        "pipx run --spec some-server==1.2 start",
        "pipx list",
        "python server.py npx some-server",
        "npm install some-server",
    ],
)
def test_a_command_that_names_what_it_runs_is_left_alone(command):
    assert [] == list(packages.findings(command.split(), "app"))


@pytest.mark.slow
def test_commands_of_every_kind_of_app_are_looked_at(shell):
    npx = shell.home / "bin" / "npx"
    npx.parent.mkdir()
    for program in ("npx", "node"):
        (npx.parent / program).write_text("#!/bin/sh\nexit 1\n")
        (npx.parent / program).chmod(0o755)
    shell.env["PATH"] = f"{npx.parent}:{shell.env['PATH']}"
    shell.configure(
        {
            "list": {"command": ["npx", "-y", "one"]},
            "args": {"command": "npx", "args": ["-y", "two"]},
            "steps": {"transport": "curated", "tools": {"t": {"steps": [{"command": ["npx", "three"]}]}}},
            "remote": {"transport": "mcp-remote", "url": "https://example.com", "package": "mcp-remote@0.1.0"},
            "good": {"transport": "mcp-remote", "url": "https://example.com"},
        }
    )

    found = [what.partition(": ")[2] for what, _ in of("package", examined(shell))]

    newest = "npx runs whatever version of {} is the newest"
    assert [
        newest.format("two"),
        newest.format("one"),
        "mcp-remote@0.1.0 lets a server run commands here (CVE-2025-6514)",
        newest.format("three"),
    ] == found


@pytest.mark.slow
def test_files_that_are_open_to_others_and_what_is_no_file_are_named_with_the_command_that_mends_it(shell):
    state = shell.configure({"fast": FAST_APP}).parent
    (state / "logs").mkdir(mode=0o755)
    (state / "logs").chmod(0o755)
    for name in ("daemon.log", "auth.json"):
        (state / name).touch()
        (state / name).chmod(0o644)
    (state / "daemon.pid").symlink_to("elsewhere")
    (state / "daemon.lock").mkdir(mode=0o700)
    (state / "daemon.log.1").mkdir(mode=0o700)
    os.mkfifo(state / "outcomes.jsonl", 0o600)
    (shell.home / ".mcp-auth").mkdir(mode=0o755)
    (shell.home / ".mcp-auth").chmod(0o755)

    found = of("file", examined(shell))

    assert [
        (f"{state}/auth.json is open to others (mode 644)", f"chmod 600 {state}/auth.json"),
        (f"{state}/daemon.lock is no file of ours", f"mv {state}/daemon.lock {state}/daemon.lock.old"),
        (f"{state}/daemon.log is open to others (mode 644)", f"chmod 600 {state}/daemon.log"),
        (f"{state}/daemon.log.1 is no file of ours", f"mv {state}/daemon.log.1 {state}/daemon.log.1.old"),
        (f"{state}/daemon.pid is no file of ours", f"mv {state}/daemon.pid {state}/daemon.pid.old"),
        (f"{state}/logs is open to others (mode 755)", f"chmod 700 {state}/logs"),
        (f"{state}/outcomes.jsonl is no file of ours", f"mv {state}/outcomes.jsonl {state}/outcomes.jsonl.old"),
        (f"{shell.home}/.mcp-auth is open to others (mode 755)", f"chmod 700 {shell.home}/.mcp-auth"),
    ] == found
    for _, fix in found:
        assert 0 == os.system(fix)
    assert 0 == shell("doctor").returncode


@pytest.mark.slow
def test_a_state_folder_that_others_can_write_to_is_named(shell):
    state = shell.configure({"fast": FAST_APP}).parent
    state.chmod(0o777)

    found = of("file", examined(shell))
    state.chmod(0o700)

    assert [(f"others can write to {state} (mode 777)", f"chmod 700 {state}")] == found


@pytest.mark.slow
def test_config_files_that_do_not_count_are_named(shell):
    shell.configure({"fast": FAST_APP})
    shell.cwd = shell.home / "outer" / "inner"
    shell.cwd.mkdir(parents=True)
    broken = shell.cwd / "tasak.yaml"
    broken.write_text("apps: [")
    wide = shell.cwd.parent / "tasak.yaml"
    wide.write_text("apps: {}")
    wide.chmod(0o666)

    found = of("config", examined(shell))

    assert [f"{broken}: line 2", f"{wide} is not read: other users can write to it (mode 666)"] == [
        found[0][0].partition(", column")[0],
        found[1][0],
    ]
    assert f"chmod go-w {wide}" == found[1][1]


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_a_config_of_another_user_is_named(shell):
    shell.cwd = shell.home / "project"
    shell.cwd.mkdir()
    (shell.cwd / "tasak.yaml").write_text("apps: {}")
    os.chown(shell.cwd / "tasak.yaml", 54321, 54321)

    (found,) = of("config", examined(shell))

    assert f"{shell.cwd}/tasak.yaml is not read: it belongs to another user" == found[0]


@pytest.mark.slow
def test_a_named_config_that_is_not_there_is_one_finding(shell):
    (found,) = examined(shell, TASAK_CONFIG="nowhere.yaml")

    assert (
        "config",
        f"TASAK_CONFIG names {shell.cwd}/nowhere.yaml, which is not there",
        "mend it or unset it",
    ) == found


@pytest.mark.parametrize(
    ("blocks", "files", "is_full"),
    [
        ((1000, 255), (10, 5), True),
        ((1000, 257), (10, 0), True),
        ((1000, 257), (10, 5), False),
        ((0, 0), (0, 0), False),
    ],
)
def test_a_file_system_that_is_full_is_a_finding(blocks, files, is_full):
    (all_blocks, free_blocks), (all_files, free_files) = blocks, files
    state = Path("/home/me/.tasak")
    room = os.statvfs_result(
        (4096, 4096, all_blocks, free_blocks, free_blocks, all_files, free_files, free_files, 0, 255)
    )

    found = [(each.what, each.fix) for each in of_room(state, room)]

    said = ("no room is left for /home/me/.tasak: its file system is full", "make room: df /home/me/.tasak")
    assert [said][: int(is_full)] == found


@pytest.mark.slow
def test_who_has_the_port_is_named(shell):
    with listener() as port:
        (found,) = examined(shell, TASAK_DAEMON_PORT=str(port))

    holder = f"process {os.getpid()}"
    assert f"port {port} of 127.0.0.1 is taken by {holder} (" in found[1]
    assert "end that, or set TASAK_DAEMON_PORT to another port or to off" == found[2]


def test_an_app_that_fails_to_connect_is_a_finding_with_its_log_if_it_has_one(tmp_path):
    state = StateDir(tmp_path)
    state.app_log("program").parent.mkdir()
    state.app_log("program").touch()
    failing = [{"app": name, "last_error": "no"} for name in ("program", "server")]

    found = daemon.findings({"version": tasak.__version__, "failing": failing}, state)

    assert [
        f"see {tmp_path}/logs/program.log; `tasak ping --start program` tries",
        "`tasak ping --start server` tries",
    ] == [each.fix for each in found]


def test_a_call_that_got_no_answer_is_a_finding(tmp_path):
    lost = {"app": "slow", "last_error": "slow pay: no answer to tools/call within 30 s"}

    (found,) = daemon.findings({"version": tasak.__version__, "lost": [lost]}, StateDir(tmp_path))

    assert "the last call of app 'slow' got no answer: slow pay: no answer to tools/call within 30 s" == found.what
    assert "`tasak ping --deep slow` asks its server whether it is there" == found.fix


@pytest.mark.slow
def test_a_daemon_that_does_not_answer_may_have_its_own_port():
    with listener() as port:
        env = {"TASAK_DAEMON_PORT": str(port)}

        assert [] == list(daemon.of_port(env, None, os.getpid()))
        assert 1 == len(list(daemon.of_port(env, None, None)))


@pytest.mark.slow
def test_a_port_that_is_none_is_a_finding(shell):
    assert [
        ("port", "the environment variable TASAK_DAEMON_PORT is 'x'", "it takes a port number, or off")
    ] == examined(shell, TASAK_DAEMON_PORT="x")


@pytest.mark.slow
def test_what_a_running_daemon_has_to_say_is_found_and_its_own_port_is_not_taken():
    with World() as world, listener() as port:
        world.configure({"gone": {"command": ["false"], "init_timeout": 5, "retries": 0, "init_attempts": 1}})
        with socket.socket() as trial:
            trial.bind(("127.0.0.1", 0))
            own = trial.getsockname()[1]
        assert 0 == world("daemon", "start", TASAK_DAEMON_PORT=str(own)).returncode
        assert 4 == world("gone", "tool").returncode

        (found,) = examined(world, TASAK_DAEMON_PORT=str(own))
        assert 0 == world("daemon", "restart", TASAK_DAEMON_PORT=str(port)).returncode
        (taken,) = examined(world, TASAK_DAEMON_PORT=str(port))

    assert ("app", True) == (found[0], found[1].startswith("app 'gone' fails to connect: "))
    assert ("port", True) == (taken[0], f"port {port} of 127.0.0.1 is taken by process {os.getpid()} (" in taken[1])


@pytest.mark.slow
def test_a_daemon_that_did_not_start_is_told_of(shell):
    (shell.home / ".tasak").mkdir(mode=0o700)
    failure = {"count": 3, "at": 1.0, "said": "the daemon did not start\n  | no"}
    (shell.home / ".tasak" / "start.failed").write_text(json.dumps(failure))
    (shell.home / ".tasak" / "start.failed").chmod(0o600)

    assert [("daemon", "the daemon did not start   | no", "`tasak daemon start` tries again")] == examined(shell)


@pytest.mark.parametrize(("version", "expected"), [(tasak.__version__, []), ("0.1.9", ["tasak daemon restart"])])
def test_a_daemon_of_another_version_is_a_finding(tmp_path, version, expected):
    assert expected == [each.fix for each in daemon.findings({"version": version}, StateDir(tmp_path))]


@pytest.mark.slow
def test_a_plugin_that_does_not_load_and_one_that_others_can_change_are_named(shell):
    site = shell.home / "site"
    for name, code in (("bad", "raise RuntimeError('no')"), ("open", "")):
        (site / name).mkdir(parents=True)
        (site / name / f"plugin_{name}.py").write_text(code)
        info = site / name / f"tasak_{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: tasak-{name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[tasak.transports]\n{name} = plugin_{name}\n")
    (site / "open").chmod(0o777)

    found = of("plugin", examined(shell, PYTHONPATH=f"{site}/bad:{site}/open"))

    cannot = "the transport {!r} cannot be used: {}"
    assert [
        cannot.format("bad", "RuntimeError: no"),
        cannot.format("open", f"others can write to {site}/open, and so change its code: chmod -R go-w {site}/open"),
    ] == [what for what, _ in found]


@pytest.mark.parametrize(
    ("version", "bounds", "expected"),
    [
        ("2.3.0", "mcp<3,>=2.3", True),
        ("2.10", "mcp<3,>=2.3", True),
        ("2.2.9", "mcp<3,>=2.3", False),
        ("3.0.0", "mcp<3,>=2.3", False),
        ("3.0.0a1", "mcp<3,>=2.3", False),
        ("7", "psutil>=7", True),
        ("3.11.7", ">=3.11", True),
        ("3.10.1", ">=3.11", False),
        ("1", "anything", True),
    ],
)
def test_a_version_is_held_against_its_bounds(version, bounds, expected):
    assert expected is installation.is_within(version, bounds)


def test_versions_out_of_bounds_and_libraries_that_are_not_there_are_named(tmp_path, monkeypatch):
    info = tmp_path / "needy-1.0.dist-info"
    info.mkdir()
    needs = ["mcp>=99", "no-such-library", "click>=8", 'rich>=99; extra == "more"']
    lines = ["Metadata-Version: 2.1", "Name: needy", "Version: 1.0", "Requires-Python: >=9.9"]
    (info / "METADATA").write_text("\n".join([*lines, *(f"Requires-Dist: {each}" for each in needs)]) + "\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    found = [each.what for each in installation.of_versions("needy")]

    assert [True, True, True] == [
        found[0].startswith("this is Python 3.") and found[0].endswith("and needy needs >=9.9"),
        found[1].startswith("mcp is ") and found[1].endswith("and needy needs mcp>=99"),
        "no-such-library is not installed, and needy needs it" == found[2],
    ]
    assert 3 == len(found)


def test_what_is_installed_here_is_within_its_bounds():
    assert [] == list(installation.of_versions())
