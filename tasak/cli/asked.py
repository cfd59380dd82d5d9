"""What the words before APP ask for."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from tasak.client.fast import Handover
from tasak.request import Request

if TYPE_CHECKING:
    from _socket import socket

Launcher: TypeAlias = Literal["native", "python"]


@dataclass(kw_only=True)
class Asked:
    """Our own options, and what the hot path left."""

    handover: Handover
    launcher: Launcher = "python"
    """Which one has tried the hot path."""
    wants_json: bool = False
    timeout: float | None = None
    session: str | None = None
    call_id: str | None = None
    no_daemon: bool = False
    debug: bool = False
    is_exact: bool = False
    """The first word is an app, whatever our own words are."""
    read_only: bool = False
    """It is `tasak read`."""

    def update(self, options: Mapping[str, Any]) -> None:
        for name, value in options.items():
            setattr(self, name, value)
        self.debug = self.debug or is_set("TASAK_DEBUG")

    def take_reply(self) -> "socket | None":
        """The answer to the call that the hot path sent, unread; once."""
        reply, self.handover.reply = self.handover.reply, None
        return reply

    def drop_reply(self) -> None:
        """Let go of what the hot path sent: the daemon has refused it, since the word was one of ours."""
        if reply := self.take_reply():
            reply.close()

    def request(self, app: str, tool: str = "", argv: Sequence[str] = ()) -> Request:
        return Request(
            app=app,
            tool=tool,
            argv=argv,
            cwd=working_directory(),
            env=dict(os.environ),
            session=self.session,
            timeout=self.timeout,
            call_id=self.call_id,
            read_only=self.read_only,
            wants_json=self.wants_json,
            is_terminal=os.isatty(1),
        )


def is_set(variable: str) -> bool:
    """Whether the user's environment says yes."""
    return os.environ.get(variable, "") not in ("", "0")


def working_directory() -> Path | None:
    """Where the caller stands; None where that is gone."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None
