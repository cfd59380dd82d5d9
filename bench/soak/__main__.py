"""Make very many calls of five apps while things break, and see whether the daemon keeps its promises.

Prints a sample now and then, how the calls ended, and each promise. Exit status 1 says that one is broken.
"""

import argparse
import asyncio
import contextlib
import os
import secrets
import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType

import psutil

from bench.__main__ import about_machine
from bench.home import Failed
from bench.soak.daemon import Daemon
from bench.soak.load import Load
from bench.soak.report import report
from bench.soak.samples import HEADING, Sample
from bench.soak.verdict import promises
from bench.soak.world import APPS, IDLE_TTL, World
from tasak.errors import TasakError

SAMPLE_EVERY = 1000

# As many samples as a reader takes in, beside the first and the last.
SHOWN = 10

# After the last call: until all that was idle has been let go of.
SETTLING = IDLE_TTL + 30.0
POLL_INTERVAL = 0.1

# So often, to see whether something is there or is just being closed.
LOOKS = 3


def main(words: Sequence[str] | None = None) -> int:
    asked = parser().parse_args(words)
    # Each of them raises: what was started ends with us.
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    machine = about_machine()
    print(f"python -m bench.soak --calls {asked.calls} --faults {asked.faults:g} --seed {asked.seed}", flush=True)
    try:
        with World(asked.apps, asked.seed) as world:
            kept = asyncio.run(soak(world, asked))
    except (Failed, TasakError, OSError, psutil.Error) as problem:
        print(f"bench.soak: {problem!r}", file=sys.stderr)
        return 1
    print(", ".join(f"{key} {value}" for key, value in {**machine, "load after": os.getloadavg()[0]}.items()))
    return 0 if kept else 1


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    made.add_argument("--calls", type=int, default=100_000, help="how many (100000)")
    made.add_argument(
        "--apps", nargs="+", choices=APPS, default=APPS, metavar="APP", help=f"of {', '.join(APPS)} (all)"
    )
    made.add_argument(
        "--faults", type=float, default=0.01, help="the share of calls with which something breaks (0.01)"
    )
    made.add_argument("--seed", type=int, default=secrets.randbelow(1 << 32), help="of all that is left to chance")
    return made


async def soak(world: World, asked: argparse.Namespace) -> bool:
    """Whether every promise is kept."""
    process = psutil.Process(world.daemon_pid)
    samples: list[Sample] = []

    async def note(ended: int) -> None:
        if ended % SAMPLE_EVERY == 0:
            samples.append(await sample(daemon, process, ended))
            if ended % shown_every == 0:
                show(samples[-1])

    shown_every = max(SAMPLE_EVERY, asked.calls // SHOWN)
    print(HEADING)
    began = time.monotonic()
    async with Daemon(world.home.state.socket) as daemon:
        await load_everything(world, daemon)
        before = await rested(daemon, process, 0)
        show(before)
        load = Load(world, daemon, calls=asked.calls, faults=asked.faults, seed=asked.seed, on_end=note)
        await load.run()
    took = time.monotonic() - began
    async with Daemon(world.home.state.socket) as daemon:
        after = await rested(daemon, process, asked.calls)
        show(after)
    found = promises(world, load.ledger, before=before, samples=samples, after=after)
    print(report(load, found, took))
    return all(each.is_kept for each in found)


def show(found: Sample) -> None:
    print(found.as_line(), flush=True)


async def load_everything(world: World, daemon: Daemon) -> None:
    """What a first call loads and opens is no leak."""
    for app in world.apps:
        await daemon.call(app, {"tool": "echo", "arguments": {"text": f"first-of-{app}"}}, keeps=False)


async def rested(daemon: Daemon, process: psutil.Process, calls: int) -> Sample:
    """What there is once nothing has been in use for a while: all of it should be gone."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SETTLING):
            while await daemon.connections() or process.children(recursive=True):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(POLL_INTERVAL)
    # What we ask with is closed a moment later.
    looks = [await sample(daemon, process, calls)]
    while len(looks) < LOOKS:
        await asyncio.sleep(POLL_INTERVAL)
        looks.append(await sample(daemon, process, calls))
    return min(looks, key=lambda look: look.descriptors.total())


async def sample(daemon: Daemon, process: psutil.Process, calls: int) -> Sample:
    return Sample.of(process, await daemon.metrics(), calls=calls)


def stop(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
