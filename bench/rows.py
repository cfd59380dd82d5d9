"""What is measured, a function for each row of the table. Each begins with a home in which no daemon runs."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from bench.bare_pipe import BarePipe
from bench.daemon_call import DaemonCall
from bench.figure import Figure, Target
from bench.home import DEMO_SERVER, STDLIB_SERVER, TASAK, Failed, Home, resident
from bench.pairs import Pairs, interleaved
from bench.sdk_client import SdkClient, command_of
from bench.trouble import APPS, Trouble

Row = Callable[[Home, bool], Iterator[Figure]]

MIB = 1 << 20

ADD = [TASAK, "demo", "add", "--a", "2", "--b", "3"]
SUM = "5\n"

# What an installer makes of the launcher in Python, but for the first line.
SCRIPT = str(Path(__file__).parents[1] / "scripts" / "tasak")
WARM_TARGETS = {"native": Target(at_most=0.2), "python": Target(at_most=1.15)}

# The least of so many calls in a row is one value where a call is short: what else the machine does only ever adds,
# and adds more to us, who pass the call from process to process more often.
BATCH = 10


def warm_call(home: Home, is_quick: bool) -> Iterator[Figure]:
    """A whole command on a warm daemon: as installed, and in Python alone where a native launcher is installed."""
    require(SUM, home.answer(*ADD))
    for way, command in launchers(home).items():
        yield Figure(
            name="warm-call",
            ours=f"warm `tasak demo add` ({way})",
            reference="`python -c pass`",
            pairs=beside_bare_start(home, partial(home.seconds, *command, *ADD[1:]), is_quick),
            target=WARM_TARGETS[way.partition(",")[0]],
        )


def warm_parts(home: Home, is_quick: bool) -> Iterator[Figure]:
    """What of a warm call is the server's: the same with one that answers in microseconds, and the server by itself."""
    text = "hello"
    require(f"{text}\n", home.answer(TASAK, "stdlib", "echo", "--text", text))
    for way, command in launchers(home).items():
        yield Figure(
            name="warm-parts",
            ours=f"warm `tasak stdlib echo` ({way})",
            reference="`python -c pass`",
            pairs=beside_bare_start(home, partial(home.seconds, *command, "stdlib", "echo", "--text", text), is_quick),
        )
    servers: dict[str, tuple[list[str], str, dict[str, Any]]] = {
        "demo add": (DEMO_SERVER, "add", {"a": 2, "b": 3}),
        "stdlib echo": (STDLIB_SERVER, "echo", {"text": text}),
    }
    for name, (server, tool, arguments) in servers.items():
        with BarePipe(home, server, tool, arguments) as pipe:
            yield Figure(
                name="warm-parts",
                ours=f"the server of `{name}` by itself, on its pipe",
                reference="`python -c pass`",
                pairs=beside_bare_start(home, pipe.seconds, is_quick),
            )


def daemon_call(home: Home, is_quick: bool) -> Iterator[Figure]:
    """The same without the process: from a request on the socket to its answer, as from one in an open SDK session.

    The second figure has what comes with each command: connecting, and waiting for the go-ahead.
    """
    text = "hello"
    require(f"{text}\n", home.answer(TASAK, "stdlib", "echo", "--text", text))
    call = DaemonCall(home, "stdlib", "echo", "--text", text, expected=text)
    count = 3 if is_quick else 100
    with SdkClient(home, STDLIB_SERVER, "echo", {"text": text}) as sdk, call.connect() as kept:
        ways: dict[str, tuple[Callable[[], float], Target | None]] = {
            "request to the daemon → answer": (partial(call.on_kept_connection, kept), Target(at_most=2.0)),
            "the same with a connection of its own and the go-ahead": (call.on_new_connection, None),
        }
        for way, (once, target) in ways.items():
            yield Figure(
                name="daemon-call",
                ours=way,
                reference="SDK's `call_tool`",
                pairs=interleaved(partial(least, once), partial(sdk.seconds, BATCH), count),
                target=target,
            )


def crowd(home: Home, is_quick: bool) -> Iterator[Figure]:
    """Twenty commands at once, each asleep for a second."""
    sleep = [TASAK, "demo", "sleep", "--seconds", "1"]
    require(SUM, home.answer(*ADD))
    yield Figure(
        name="crowd",
        ours="20 simultaneous `tasak demo sleep --seconds 1`",
        reference="one",
        pairs=interleaved(lambda: home.seconds(*sleep, at_once=20), lambda: home.seconds(*sleep), 1 if is_quick else 7),
        target=Target(of="ours", at_most=1.6),
    )


def first_call(home: Home, is_quick: bool) -> Iterator[Figure]:
    """A command that finds no daemon: the time to its answer, since how a server is let go is another matter.

    The server is the same, and both sides have their .pyc files.
    """
    direct = command_of(DEMO_SERVER, "add", {"a": 2, "b": 3})
    require(SUM, home.answer(*ADD))
    require(SUM, home.answer(*direct))

    def from_nothing() -> float:
        home.stop_daemon()
        return home.seconds_to_answer(*ADD)

    def by_hand() -> float:
        home.stop_daemon()
        return home.seconds_to_answer(*direct)

    yield Figure(
        name="first-call",
        ours="first `tasak demo add`, no daemon",
        reference="SDK script, same server",
        pairs=interleaved(from_nothing, by_hand, 1 if is_quick else 9),
        target=Target(at_most=1.3),
    )


def big_result(home: Home, is_quick: bool) -> Iterator[Figure]:
    """Forty times the bytes should not take much more than forty times as long."""

    def big(size: int) -> list[str]:
        return [TASAK, "stdlib", "big", "--size", str(size)]

    require("x" * MIB + "\n", home.answer(*big(MIB)))
    yield Figure(
        name="big-result",
        ours="result of 40 MiB",
        reference="of 1 MiB",
        pairs=interleaved(lambda: home.seconds(*big(40 * MIB)), lambda: home.seconds(*big(MIB)), 1 if is_quick else 10),
        target=Target(at_most=60),
    )


def memory(home: Home, is_quick: bool) -> Iterator[Figure]:
    """The daemon, with one app connected and a hundred calls made."""
    call = DaemonCall(home, "stdlib", "echo", "--text", "hello", expected="hello")

    def daemons() -> float:
        home.stop_daemon()
        home.answer(TASAK, "stdlib", "echo", "--text", "hello")
        for _ in range(99):
            call.on_new_connection()
        return home.daemon_memory()

    yield Figure(
        name="memory",
        ours="the daemon, one app, 100 calls",
        reference="`import mcp`",
        unit="B",
        pairs=interleaved(daemons, lambda: memory_after(home, "import mcp"), 1 if is_quick else 3),
        target=Target(of="ours", at_most=90 * MIB),
    )


def bulkheads(home: Home, is_quick: bool) -> Iterator[Figure]:
    """The slowest hundredth of an app's calls, beside others that hang and flood, and without them."""
    home.configure(APPS)
    text = "hello"
    require(f"{text}\n", home.answer(TASAK, "stdlib", "echo", "--text", text))
    call = DaemonCall(home, "stdlib", "echo", "--text", text, expected=text)
    calls = 100 if is_quick else 500

    def beside_trouble() -> float:
        with Trouble(home):
            return slowest_hundredth(call.on_new_connection, calls)

    yield Figure(
        name="bulkheads",
        ours="p99 of calls beside apps that hang and flood",
        reference="without them",
        pairs=interleaved(
            beside_trouble, lambda: slowest_hundredth(call.on_new_connection, calls), 2 if is_quick else 21
        ),
        target=Target(at_most=2.0),
    )


ROWS: dict[str, Row] = {
    "warm-call": warm_call,
    "warm-parts": warm_parts,
    "daemon-call": daemon_call,
    "crowd": crowd,
    "first-call": first_call,
    "big-result": big_result,
    "memory": memory,
    "bulkheads": bulkheads,
}


def launchers(home: Home) -> dict[str, list[str]]:
    """The installed command, and the launcher in Python beside a native one; each with what it is."""
    launcher, installer = launcher_of(home), installed_by()
    found = {f"{launcher}, installed by {installer}": [TASAK]}
    if launcher == "native":
        found["python, scripts/tasak"] = [sys.executable, SCRIPT]
    return found


def beside_bare_start(home: Home, ours: Callable[[], float], is_quick: bool) -> Pairs:
    return interleaved(ours, partial(home.seconds, sys.executable, "-c", "pass"), 5 if is_quick else 80)


def launcher_of(home: Home) -> str:
    """Which one the installed command is."""
    launcher: str = json.loads(home.answer(TASAK, "--json", "version"))["launcher"]
    return launcher


def installed_by() -> str:
    """What wrote the command; of a pip its version counts, too."""
    installer = (metadata.distribution("tasak").read_text("INSTALLER") or "nobody who says so").strip()
    return f"{installer} {metadata.version(installer)}" if installer == "pip" else installer


def least(once: Callable[[], float]) -> float:
    return min(once() for _ in range(BATCH))


def slowest_hundredth(once: Callable[[], float], calls: int) -> float:
    """Of so many calls in a row, 99 in 100 take less."""
    return sorted(once() for _ in range(calls))[calls * 99 // 100]


def memory_after(home: Home, statement: str) -> int:
    """Resident bytes of a fresh interpreter once it has done that."""
    waiting = f"{statement}\nprint(flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-c", waiting], env=home.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            return resident(process.pid)
        finally:
            process.kill()


def require(expected: str, answer: str) -> None:
    if expected != answer:
        raise Failed(f"the answer is {answer[:100]!r} instead of {expected[:100]!r}")
