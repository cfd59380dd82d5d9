"""What the daemon has, as it is seen from outside: memory, descriptors, threads, tasks, children."""

import contextlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

MIB = 1 << 20

# The gauge among its metrics, where there is one.
TASKS = "tasak_tasks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    calls: int
    memory: int
    """Resident bytes."""
    descriptors: Counter[str]
    """By what they lead to."""
    threads: int
    tasks: int | None
    """None where it does not tell."""
    children: int
    """With those that are dead, and not buried."""
    zombies: int

    @classmethod
    def of(cls, daemon: psutil.Process, metrics: dict[str, Any], *, calls: int) -> "Sample":
        children = daemon.children(recursive=True)
        [tasks] = metrics.get(TASKS) or [{"value": None}]
        return cls(
            calls=calls,
            memory=daemon.memory_info().rss,
            descriptors=descriptors(daemon),
            threads=daemon.num_threads(),
            tasks=None if tasks["value"] is None else int(tasks["value"]),
            children=len(children),
            zombies=sum(is_zombie(child) for child in children),
        )

    def as_cells(self) -> list[str]:
        """The same for a table, whose columns `COLUMNS` names."""
        counts = (self.descriptors.total(), self.threads, "-" if self.tasks is None else self.tasks, self.children)
        return [str(self.calls), f"{self.memory / MIB:.1f} MiB", *map(str, counts), str(self.zombies)]

    def as_line(self) -> str:
        """The same for a reader who watches; `HEADING` stands above."""
        return "  ".join(map(str.rjust, self.as_cells(), WIDTHS))


COLUMNS = ["calls", "memory", "descriptors", "threads", "tasks", "children", "zombies"]
WIDTHS = [max(9, len(column)) for column in COLUMNS]
HEADING = "  ".join(map(str.rjust, COLUMNS, WIDTHS))


def descriptors(process: psutil.Process) -> Counter[str]:
    """By kind where the system tells (Linux); else they are all of one."""
    folder = Path(f"/proc/{process.pid}/fd")
    if not folder.is_dir():
        return Counter({"descriptor": process.num_fds()})
    found: Counter[str] = Counter()
    for link in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # it was closed meanwhile
            found[str(link.readlink()).partition(":[")[0]] += 1
    return found


def is_zombie(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
