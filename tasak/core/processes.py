"""The processes behind a connection, as the machine sees them. Only whoever looks at them pays for psutil."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psutil


def tree(pid: int | None) -> list[dict[str, Any]]:
    """The process and its descendants: pid, name, resident memory in bytes."""
    import psutil

    if pid is None:
        return []
    try:
        root = psutil.Process(pid)
        members = [root, *root.children(recursive=True)]
    except psutil.Error:
        return []
    return [found for member in members if (found := process(member))]


def process(member: "psutil.Process") -> dict[str, Any] | None:
    import psutil

    try:
        with member.oneshot():
            return {"pid": member.pid, "name": member.name(), "rss": member.memory_info().rss}
    except psutil.Error:
        return None
