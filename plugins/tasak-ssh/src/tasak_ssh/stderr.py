"""What a remote process says on stderr: the last lines are kept, and each is in the debug log."""

import logging
from collections import deque
from collections.abc import Sequence

# Enough to find the cause of a crash in; a line is cut where nobody reads on.
RING_LINES = 200
LINE_LENGTH = 4000


class Stderr:
    def __init__(self, log: logging.Logger) -> None:
        self._ring: deque[str] = deque(maxlen=RING_LINES)
        self._partial = b""
        self._log = log

    def lines(self) -> Sequence[str]:
        """Oldest first; the last one may be half a line."""
        return [*self._ring, *([as_text(self._partial)] if self._partial else [])]

    def feed(self, chunk: bytes) -> None:
        *whole, self._partial = (self._partial + chunk).split(b"\n")
        for line in whole:
            self._ring.append(as_text(line))
            self._log.debug("stderr: %s", self._ring[-1])
        self._partial = self._partial[:LINE_LENGTH]


def as_text(line: bytes) -> str:
    """A line that does nothing to a terminal: what is not printable is shown as its escape."""
    text = line[:LINE_LENGTH].decode("utf-8", "replace").rstrip("\r")
    return "".join(each if each.isprintable() or each == "\t" else escape(each) for each in text)


def escape(character: str) -> str:
    return character.encode("unicode_escape").decode()
