"""What was promised of so many calls, and whether it was kept."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.soak.ledger import Ledger
from bench.soak.samples import MIB, Sample
from bench.soak.world import World
from tasak.logs import FILE_SIZE, FILES

# Until then everything that is needed has been loaded, and what is kept of earlier calls is there.
SETTLED = 10_000
GROWTH = 0.10

# The loop's executor grows to as many threads as it needs, and keeps them.
EXECUTOR = min(32, (os.cpu_count() or 1) + 4)

# As many as a reader takes in.
QUOTED = 3


@dataclass(frozen=True, slots=True)
class Promise:
    """`what` was promised; `found` says how it is."""

    what: str
    is_kept: bool
    found: str

    def as_cells(self) -> list[str]:
        return ["kept" if self.is_kept else "BROKEN", self.what, self.found]


def promises(
    world: World, ledger: Ledger, *, before: Sample, samples: Sequence[Sample], after: Sample
) -> list[Promise]:
    findings = ledger.findings(world.executions())
    return [
        none("every call ends once", findings.not_ended_once),
        none("with its own result or an error that has a name", findings.lies),
        none("no call runs twice", findings.ran_twice),
        none("what a caller is told of whether it ran is true", findings.untrue),
        memory(samples),
        descriptors(before.descriptors, after.descriptors),
        back("tasks", before.tasks, after.tasks),
        back("children", before.children, after.children),
        back("threads", before.threads, after.threads, most_more=EXECUTOR),
        logs(world),
    ]


def none(what: str, found: Sequence[str]) -> Promise:
    quoted = "; ".join(found[:QUOTED])
    return Promise(what, not found, f"{len(found)} do not: {quoted}" if found else "")


def memory(samples: Sequence[Sample]) -> Promise:
    what = f"memory stays within {GROWTH:.0%} of what it is after {SETTLED} calls"
    settled = [sample.memory for sample in samples if sample.calls >= SETTLED]
    if len(settled) < 2:
        return Promise(what, is_kept=True, found="too few calls to tell")
    growth = max(settled) / settled[0] - 1
    return Promise(what, growth <= GROWTH, f"{settled[0] / MIB:.1f} MiB, {growth:+.1%} at the most")


def descriptors(before: Counter[str], after: Counter[str]) -> Promise:
    changed = [
        *(f"+{each}" for each in (after - before).elements()),
        *(f"-{each}" for each in (before - after).elements()),
    ]
    found = ", ".join([str(before.total()), str(after.total()), *changed])
    return Promise("descriptors are as before", not changed, found)


def back(what: str, before: int | None, after: int | None, *, most_more: int = 0) -> Promise:
    if before is None or after is None:
        return Promise(f"{what} are as before", is_kept=True, found="it does not tell")
    more = f", {most_more} more at the most" if most_more else ""
    return Promise(
        f"{what} are as before{more}", before <= after + most_more and after <= before + most_more, f"{before}, {after}"
    )


def logs(world: World) -> Promise:
    """Of the daemon, and of each app."""
    state = world.home.state
    sizes = [size_of(log) for log in (state.log, *map(state.app_log, world.apps))]
    return Promise("no log outgrows its files", max(sizes) <= FILE_SIZE * FILES, f"{max(sizes) / MIB:.1f} MiB")


def size_of(log: Path) -> int:
    """With those before it."""
    return sum(file.stat().st_size for file in log.parent.glob(f"{log.name}*"))
