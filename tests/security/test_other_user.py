"""Another user of the machine: kept out by each defence alone, and told nothing where they stand in our place."""

import errno
import os
import socket
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil
import pytest

from tests.security.front import CALL, GOOD, JSON, PATIENCE, Front, free_port
from tests.security.people import OWN_APP, OWNER, STRANGER, Home, acting_as, as_root, by
from tests.shell import Shell, until

pytestmark = [as_root, pytest.mark.keeps("the daemon that the tests of this module share outlives each of them")]

SECRET = "not for them"


# ── every defence but one taken away ─────────────────────────────────────────────────────────────────────────────
#
# Modes are taken away from the files of a daemon that runs. Two defences cannot be taken away so: that the daemon asks
# the kernel who is at its socket, and that it asks for the token. Where the kernel refuses to connect or to open, the
# daemon was not asked, and they have no part in it.


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    with Home() as home:
        yield Front(home)


@pytest.fixture
def refuses(front: Front) -> Iterator[None]:
    """Nothing ran meanwhile, and its owner still gets in, at either door."""
    before = front.executions
    yield
    assert before == front.executions
    assert [200, 200] == [front.ask(door, "POST", CALL, body=GOOD).status for door in ("tcp", "socket")]


@dataclass(frozen=True, kw_only=True)
class Left:
    """The modes of which one at most keeps others out, and what a call of theirs then comes to."""

    folder: int = 0o755
    socket: int = 0o666
    token: int = 0o644
    outcome: str


AT_THE_SOCKET = {
    "the mode of the folder": Left(folder=0o700, outcome="EACCES"),
    "the mode of the socket": Left(socket=0o600, outcome="EACCES"),
    "who the kernel says is there": Left(outcome="forbidden"),
}


@pytest.mark.parametrize("alone", AT_THE_SOCKET)
def test_at_the_socket_each_defence_alone_keeps_another_user_out(front, refuses, alone):
    left = AT_THE_SOCKET[alone]

    with front.modes(folder=left.folder, socket=left.socket, token=left.token):
        outcome = outcome_of(lambda: front.ask("socket", "POST", CALL, body=GOOD, user=STRANGER).code)

    assert left.outcome == outcome


AT_THE_PORT = {
    "the mode of the folder": Left(folder=0o700, outcome="EACCES"),
    "the mode of the token's file": Left(token=0o600, outcome="EACCES"),
}


@pytest.mark.parametrize("alone", AT_THE_PORT)
def test_at_the_port_each_defence_of_the_token_alone_keeps_it_from_another_user(front, refuses, alone):
    left = AT_THE_PORT[alone]

    with front.modes(folder=left.folder, socket=left.socket, token=left.token):
        outcome = outcome_of(lambda: read_as(STRANGER, front.token_file))
        answer = front.ask("tcp", "POST", CALL, {"Host": "localhost", **JSON}, GOOD, user=STRANGER)

    assert left.outcome == outcome
    assert (401, "no_token") == (answer.status, answer.code)


def outcome_of(attempt: Callable[[], object]) -> object:
    """What it returns, or the kernel's name for why it cannot."""
    try:
        return attempt()
    except OSError as problem:
        return errno.errorcode[problem.errno or 0]


def read_as(user: int, path: Path) -> str:
    with acting_as(user):
        return path.read_text(errors="replace")


def test_the_token_alone_keeps_another_user_out_who_reads_all_the_rest(front, refuses):
    pid = front.shell.daemon_pid
    rest = [path for path in front.shell.state.rglob("*") if path not in (front.token_file, front.socket)]
    files = [path for path in rest if path.is_file()]
    before = {path: stat.S_IMODE(path.stat().st_mode) for path in rest}
    for path in rest:
        path.chmod(0o755)

    with front.modes():
        seen = [read_as(STRANGER, path) for path in [*files, Path(f"/proc/{pid}/cmdline")]]
        unseen = outcome_of(lambda: read_as(STRANGER, Path(f"/proc/{pid}/environ")))
        answers = [
            front.ask("tcp", "POST", CALL, {"Host": "localhost", **JSON, "Authorization": guess}, GOOD, user=STRANGER)
            for guess in ("", "Bearer", "Bearer ", f"Bearer {pid}", f"Bearer {'A' * len(front.token)}")
        ]
    for path, mode in before.items():
        path.chmod(mode)

    assert {"daemon.pid", "daemon.log", "daemon.lock", "tasak.yaml"} <= {path.name for path in files}
    assert [] == [text for text in seen if front.token in text]
    assert "EACCES" == unseen
    assert {(401, "no_token")} == {(answer.status, answer.code) for answer in answers}


def test_what_was_taken_away_were_the_defences(front):
    """With the modes gone the socket is reached, and whoever has the token is in: nothing else guards the port."""
    before = front.executions

    with front.modes(token=0o644):
        token = read_as(STRANGER, front.token_file).strip()
        headers = {"Host": "localhost", **JSON, "Authorization": f"Bearer {token}"}
        at_socket = front.ask("socket", "POST", CALL, headers, GOOD, user=STRANGER)
        at_port = front.ask("tcp", "POST", CALL, headers, GOOD, user=STRANGER)

    assert [403, 200] == [at_socket.status, at_port.status]
    assert before + 1 == front.executions


def test_who_the_kernel_lets_in_are_its_owner_and_root(front):
    with front.modes():
        statuses = {user: front.ask("socket", "GET", "/metrics", user=user).status for user in (OWNER, 0, STRANGER)}

    assert {OWNER: 200, 0: 200, STRANGER: 403} == statuses


def bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as theirs:
        theirs.bind(str(path))


# Ways to change a file of the user's, or to have another in its place.
ATTEMPTS: dict[str, Callable[[Path], object]] = {
    "write": lambda path: path.write_text("theirs"),
    "remove": lambda path: path.unlink(),
    "rename": lambda path: path.rename(path.with_name("other")),
    "open to all": lambda path: path.chmod(0o666),
    "make a link": lambda path: path.with_name("other").symlink_to("/tmp"),
    "make a file": lambda path: path.with_name("other").write_text("theirs"),
    "make a socket": lambda path: bind(path.with_name("other")),
}


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_who_can_read_the_folder_puts_nothing_in_the_place_of_a_file(front, refuses, attempt):
    names = ("daemon.sock", "daemon.token", "daemon.pid", "daemon.log", "tasak.yaml")

    with front.modes(socket=0o600), acting_as(STRANGER):
        outcomes = [outcome_of(partial(ATTEMPTS[attempt], front.shell.state / name)) for name in names]

    assert {"EACCES", "EPERM"} >= set(outcomes)
    assert not (front.shell.state / "other").exists()


# ── in our place ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def home() -> Iterator[Home]:
    with Home() as made:
        made.configure({"fast": OWN_APP})
        made.home.chmod(0o755)
        yield made


class Ear(socket.socket):
    """A listening socket of somebody's, who says nothing and hears all."""

    def open(self, user: int, address: str | tuple[str, int]) -> "Ear":
        with acting_as(user):
            self.bind(address)
            self.listen(100)
            if isinstance(address, str):
                os.chmod(address, 0o666)
        self.setblocking(False)
        return self

    def heard(self) -> list[bytes]:
        """What each of those said who came, and who have hung up again."""
        told = []
        with suppress(BlockingIOError):
            while True:
                caller, _ = self.accept()
                with caller:
                    caller.settimeout(PATIENCE)
                    said = b""
                    with suppress(ConnectionError):
                        while piece := caller.recv(1 << 16):
                            said += piece
                    told.append(said)
        return told


def their_socket(home: Home, ear: Ear, elsewhere: Path) -> None:
    ear.open(STRANGER, str(home.state / "daemon.sock"))


def a_link_to_their_socket(home: Home, ear: Ear, elsewhere: Path) -> None:
    ear.open(STRANGER, str(elsewhere / "ear"))
    with acting_as(STRANGER):
        (home.state / "daemon.sock").symlink_to(elsewhere / "ear")


def a_link_to_a_socket_of_the_users_own(home: Home, ear: Ear, elsewhere: Path) -> None:
    ear.open(OWNER, str(elsewhere / "ear"))
    with acting_as(STRANGER):
        (home.state / "daemon.sock").symlink_to(elsewhere / "ear")


# What stands there, the mode of the folder afterwards, and why it is not used. Of the two that tell whose daemon it is,
# one at a time has a reason to: the folder is private again, or the listener is the user's own.
IN_PLACE = {
    "their socket": (their_socket, 0o700, "who listens on {} is another user"),
    "a link to their socket": (a_link_to_their_socket, 0o700, "who listens on {} is another user"),
    "a link to a socket of the user's own": (a_link_to_a_socket_of_the_users_own, 0o777, "others can write to "),
}

COMMANDS = [
    ["--json", "fast", "echo", "--text", SECRET],
    ["fast"],
    ["daemon", "status"],
    ["daemon", "stop"],
    ["daemon", "restart"],
    ["daemon", "start"],
    ["connections"],
    ["doctor"],
]


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A folder that is everybody's."""
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        os.chmod(made, 0o777)
        yield Path(made)


@pytest.fixture(params=IN_PLACE)
def in_place(request: pytest.FixtureRequest, home: Home, elsewhere: Path) -> Iterator[tuple[Ear, str]]:
    """Who listens at the socket's path, and what is said of it."""
    plant, mode, why = IN_PLACE[request.param]
    path = home.state / "daemon.sock"
    # A config in a folder that others can write to would not be read.
    home.cwd = home.home / "project"
    home.cwd.mkdir(mode=0o755)
    (home.state / "tasak.yaml").rename(home.cwd / "tasak.yaml")
    with Ear(socket.AF_UNIX) as ear:
        home.state.chmod(0o777)
        plant(home, ear, elsewhere)
        home.state.chmod(mode)
        yield ear, why.format(path)
        path.unlink()
    home.state.chmod(0o700)


@pytest.mark.slow
def test_what_another_user_put_in_the_place_of_the_socket_is_told_no_call(home, in_place):
    ear, why = in_place

    done = home("fast", "echo", "--text", SECRET)

    assert (0, f"{SECRET}\n") == (done.returncode, done.stdout)
    assert why in done.stderr
    assert b"" == b"".join(ear.heard())


@pytest.mark.slow
def test_what_another_user_put_in_the_place_of_the_socket_is_told_nothing_by_any_command(home, in_place):
    ear, why = in_place

    done = [home(*command) for command in COMMANDS]

    assert [] == [each for each in done if why not in each.stdout + each.stderr or "a bug in" in each.stderr]
    assert b"" == b"".join(ear.heard())


@pytest.mark.slow
@pytest.mark.parametrize("command", ["stop", "restart"])
def test_whoever_listens_in_the_place_of_the_daemon_gets_no_signal_of_another_users(home, command):
    """Root's would arrive."""
    program = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); sys.stdin.read()"
    home.give(home.home, 0)
    home.give(home.state, 0)
    home.state.chmod(0o777)
    sock = home.state / "daemon.sock"
    words = [*by(STRANGER), "/usr/bin/python3", "-I", "-S", "-c", program, str(sock)]
    with subprocess.Popen(words, stdin=subprocess.PIPE) as theirs:
        until(sock.exists)
        home.state.chmod(0o700)

        done = Shell.__call__(home, "daemon", command)

        assert f"who listens on {sock} is another user" in done.stderr
        assert theirs.poll() is None
        theirs.communicate()
        assert 0 == theirs.returncode
    sock.unlink()


@pytest.mark.slow
def test_who_has_the_port_before_us_hears_nothing_and_gets_no_token(home):
    port = free_port()
    home.env["TASAK_DAEMON_PORT"] = str(port)
    with Ear() as ear:
        ear.open(STRANGER, ("127.0.0.1", port))
        called = home("fast", "echo", "--text", SECRET)
        until(lambda: "tcp_problem" in home.json("daemon", "status"))
        status, looked = home.json("daemon", "status"), home("doctor")
        heard = ear.heard()

    assert (0, f"{SECRET}\n", "") == (called.returncode, called.stdout, called.stderr)
    assert f"127.0.0.1:{port}: " in status["tcp_problem"]
    assert f"port {port} of 127.0.0.1 is taken" in looked.stdout
    assert [] == heard
    assert not (home.state / "daemon.token").exists()


@pytest.mark.slow
def test_who_has_the_port_after_a_daemon_that_was_killed_is_shown_no_token_by_anybody(home):
    front = Front(home)
    assert front.token
    psutil.Process(home.daemon_pid).kill()

    with Ear() as ear:
        ear.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        until(lambda: is_open(ear, front.port))
        called = home("fast", "echo", "--text", SECRET)
        until(lambda: "tcp_problem" in home.json("daemon", "status"))
        heard = ear.heard()

    assert (0, f"{SECRET}\n") == (called.returncode, called.stdout)
    assert [] == heard
    assert not front.token_file.exists()


def is_open(ear: Ear, port: int) -> bool:
    with suppress(OSError):  # the daemon has not let go of it yet
        ear.open(STRANGER, ("127.0.0.1", port))
        return True
    return False


@pytest.mark.slow
@pytest.mark.parametrize("user", [STRANGER, OWNER])
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_nobody_takes_or_shares_the_port_of_a_daemon_that_runs(front, refuses, user, host):
    with socket.socket() as theirs:
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
            theirs.setsockopt(socket.SOL_SOCKET, option, 1)

        with acting_as(user):
            outcome = outcome_of(partial(theirs.bind, (host, front.port)))

    assert "EADDRINUSE" == outcome


@pytest.mark.slow
def test_a_token_that_another_user_left_there_opens_nothing_and_shows_them_nothing(home):
    home.state.chmod(0o777)
    with acting_as(STRANGER):
        planted = os.open(home.state / "daemon.token", os.O_RDWR | os.O_CREAT, 0o666)
        os.write(planted, b"theirs\n")
    home.state.chmod(0o700)

    front = Front(home)
    until(lambda: "tcp" in home.json("daemon", "status"))
    kept = os.pread(planted, 100, 0)
    os.close(planted)
    answers = [
        front.ask("tcp", "POST", CALL, {"Host": "localhost", **JSON, "Authorization": f"Bearer {token}"}, GOOD)
        for token in ("theirs", front.token)
    ]

    assert b"theirs\n" == kept
    assert 0o600 == stat.S_IMODE(front.token_file.stat().st_mode)
    assert [401, 200] == [answer.status for answer in answers]
    assert 1 == front.executions
