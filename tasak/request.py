"""What a caller asks for, and what it gets: the same on every road, through the daemon or without it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Mark = Literal["warm", "new", "restarted"]
"""Of the session that served a call: it was there already, is a new one, or replaces one whose state is lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Whom a caller asks for what, and on whose behalf."""

    app: str
    cwd: Path | None
    env: Mapping[str, str] = field(repr=False)
    session: str | None = None
    timeout: float | None = None
    call_id: str | None = None
    tool: str = ""
    arguments: Mapping[str, Any] | None = field(default=None, repr=False)
    argv: Sequence[str] = field(default=(), repr=False)
    read_only: bool = False
    """Nothing may change: only what the user says is read-only is called, as `policy.require_readable` has it."""
    wants_json: bool = False
    is_terminal: bool = False
    """The answer goes to a terminal: nothing in it may act on one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a caller gets: the bytes to print, the exit status, and lines for stderr."""

    body: bytes
    exit_status: int
    mark: Mark
    notices: Sequence[str] = ()
