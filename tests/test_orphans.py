"""Whatever an app has started is gone when the app is: after each kind of end, and after a daemon that was killed."""

import os
import secrets
import signal
import subprocess
import time
from typing import Any

import psutil
import pytest

from tasak.client import client, launcher
from tasak.paths import StateDir
from tasak.transports.mark import VARIABLE, Instance
from tests.family import KINDS, Family, relative
from tests.shell import Shell, is_alive, until

pytestmark = pytest.mark.slow

PATIENCE = 30.0

# The kernel kills the children of whoever is killed; a busy machine lets them die a little later.
DIRECT_CHILDREN_GO = 2.0

# Two seconds each for the end of stdin, SIGTERM and SIGKILL; one after the other, ten apps would take forty.
TEN_GO = 6.0


def app(family: Family, *kinds: str, **more: Any) -> dict[str, Any]:
    return {"command": family.command(*kinds), **more}


def call(shell: Shell, name: str = "app", *words: str) -> None:
    done = shell(*words, name, "echo", "--text", "hi")
    assert (0, "hi\n", "") == (done.returncode, done.stdout, done.stderr)


def zombies(shell: Shell) -> list[psutil.Process]:
    children = psutil.Process(shell.daemon_pid).children()
    return [child for child in children if child.status() == psutil.STATUS_ZOMBIE]


def ask(shell: Shell, method: str, path: str) -> Any:
    connection = launcher.connect(StateDir(shell.home / ".tasak"))
    assert connection is not None
    return client.ask(connection, method, path, timeout=PATIENCE)


# The ends of a connection


def test_after_a_stop_nobody_is_left(shell, family):
    shell.configure({"app": app(family, *KINDS)})
    call(shell)
    assert 1 + len(KINDS) == len(family.living())

    stopped = shell.json("daemon", "stop")

    assert [] == family.living()
    assert {"stopped": True, "survivors": []} == stopped


def test_after_a_direct_call_nobody_is_left(shell, family):
    shell.configure({"app": app(family, *KINDS)})

    call(shell, "app", "--no-daemon")

    assert [] == family.living()


def test_when_a_connection_has_rested_too_long_nobody_is_left(shell, family):
    shell.configure({"app": app(family, *KINDS, idle_ttl=0.2)})

    call(shell)

    until(lambda: [] == family.living())
    until(lambda: [] == zombies(shell))


def test_when_the_config_was_edited_nobody_of_the_old_connection_is_left(shell, family):
    shell.configure({"app": app(family, *KINDS)})
    call(shell)
    before = family.living()

    shell.configure({"app": app(family, *KINDS, env={"NEW": "1"})})
    shell("app", "echo", "--text", "hi")

    until(lambda: not set(before) & set(family.living()))
    assert 1 + len(KINDS) == len(family.living())


def test_when_a_connection_is_restarted_nobody_of_the_old_one_is_left(shell, family):
    shell.configure({"app": app(family, *KINDS)})
    call(shell)
    before = family.living()
    (connection,) = shell.json("connections")["connections"]

    status, _ = ask(shell, "POST", f"/connections/{connection['id']}/restart")

    assert 200 == status
    assert set() == set(before) & set(family.living())
    assert 1 + len(KINDS) == len(family.living())


# By nothing is one known that has lost its parent and has no environment.
ORPHANS = [kind for kind in KINDS if kind != "bare"]


def test_when_the_server_crashes_nobody_is_left(shell, family):
    shell.configure({"app": app(family, *ORPHANS)})
    call(shell)
    assert 1 + len(ORPHANS) == len(family.living())

    shell("app", "die", "--status", "3")

    until(lambda: [] == family.living())
    until(lambda: [] == zombies(shell))


def test_ten_servers_that_will_not_go_are_ended_side_by_side(shell, family):
    names = [f"app{number}" for number in range(10)]
    shell.configure({name: app(family, "stubborn") for name in names})
    calls = [shell.start(name, "echo", "--text", "hi") for name in names]
    assert [b"hi\n"] * 10 == [each.communicate(timeout=PATIENCE)[0] for each in calls]
    began = time.monotonic()

    shell("daemon", "stop")

    assert time.monotonic() - began < TEN_GO
    assert [] == family.living()


# What a process that was killed leaves behind


def under_way(shell: Shell, *words: str) -> "subprocess.Popen[bytes]":
    """A call that takes a minute; the server is at it."""
    witness = shell.home / "executed"
    calling = shell.start(*words, "app", "sleep", "--seconds", "60")
    until(lambda: witness.exists() and "sleep" in witness.read_text())
    return calling


def app_with_witness(shell: Shell, family: Family, *kinds: str) -> dict[str, Any]:
    return app(family, *kinds, env={"EXEC": str(shell.home / "executed")})


def test_after_a_killed_daemon_its_servers_go_at_once_and_the_others_when_the_next_one_starts(shell, family):
    shell.configure({"app": app_with_witness(shell, family, "stubborn", *ORPHANS)})
    calling = under_way(shell)
    (connection,) = shell.json("connections")["connections"]

    os.kill(shell.daemon_pid, signal.SIGKILL)

    until(lambda: connection["pid"] not in family.living(), within=DIRECT_CHILDREN_GO)
    calling.communicate(timeout=PATIENCE)
    shell("daemon", "start")
    until(lambda: [] == family.living())


def test_what_a_killed_direct_call_leaves_goes_when_a_daemon_starts(shell, family):
    shell.configure({"app": app_with_witness(shell, family, "stubborn", *ORPHANS)})
    calling = under_way(shell, "--no-daemon")

    calling.kill()
    calling.communicate(timeout=PATIENCE)

    shell("daemon", "start")
    until(lambda: [] == family.living())


class Planted:
    """A process with a mark."""

    def __init__(self, surname: str, maker: Instance) -> None:
        env = {VARIABLE: f"{maker}.{secrets.token_hex(4)}"}
        self.process = subprocess.Popen(relative(surname), env=env, start_new_session=True)

    @property
    def is_gone(self) -> bool:
        return self.process.poll() is not None


def test_a_daemon_that_starts_ends_nothing_that_has_a_living_maker(shell, family):
    """Neither those of a direct call, nor those of another daemon."""
    shell.configure({"app": app_with_witness(shell, family, "stubborn", *ORPHANS)})
    calling = under_way(shell, "--no-daemon")
    living = family.living()
    us = Instance.of_this_process()
    of_ours = Planted(family.surname, us)
    of_who_had_our_pid = Planted(family.surname, Instance(us.pid, us.born - 1, us.space, us.nonce))
    of_another_container = Planted(family.surname, Instance(us.pid, us.born - 1, us.space + 1, us.nonce))

    shell("daemon", "start")

    until(lambda: of_who_had_our_pid.is_gone)
    assert (False, False) == (of_ours.is_gone, of_another_container.is_gone)
    assert set(living) <= set(family.living())
    calling.kill()
    calling.communicate(timeout=PATIENCE)
    for planted in (of_ours, of_another_container):
        planted.process.kill()
        planted.process.wait(PATIENCE)


def test_a_daemon_that_is_started_from_an_apps_tool_is_none_of_its_tree(shell, family):
    """It outlives the app; and what its own apps start has a mark of its own."""
    shell.configure({"app": app(family)})
    shell.env[VARIABLE] = f"{Instance.of_this_process()}.abc"
    call(shell)

    daemon, (server,) = psutil.Process(shell.daemon_pid), family.living()

    assert VARIABLE not in daemon.environ()
    mark = psutil.Process(server).environ()[VARIABLE]
    assert daemon.pid == Instance.of_mark(mark).pid


# Servers from npm


@pytest.mark.node
@pytest.mark.timeout(300)
@pytest.mark.parametrize("end", ["stop", "crash", "kill"])
def test_of_a_server_that_npx_wraps_nobody_is_left(shell, tmp_path, end):
    npm = {"env": {"npm_config_cache": str(tmp_path)}, "init_timeout": 240}
    shell.configure({"app": {"command": "npx -y @modelcontextprotocol/server-everything@2026.8.31"} | npm})
    shell("app", "echo", "--message", "hi")
    found = shell.json("connections")["connections"][0]
    tree = [process["pid"] for process in found["processes"]]
    assert 1 < len(tree)

    if end == "stop":
        shell("daemon", "stop")
    elif end == "crash":
        os.kill(found["pid"], signal.SIGKILL)
    else:
        os.kill(shell.daemon_pid, signal.SIGKILL)
        shell("daemon", "start")

    until(lambda: not any(is_alive(pid) for pid in tree))
