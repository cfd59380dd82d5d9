"""The road through the daemon. `DaemonAway` means here that nothing was sent: the call may go direct."""

import json
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from tasak.cli import output
from tasak.cli.asked import Asked, is_set
from tasak.client import client, fast, launcher
from tasak.errors import DaemonAway
from tasak.paths import StateDir
from tasak.request import Reply, Request


class DaemonRoad:
    """The daemon of this user. With `starts` it is started where there is none, unless the user said no."""

    def __init__(self, asked: Asked, state: StateDir, *, starts: bool = True) -> None:
        self._asked = asked
        self._state = state
        self._starts = starts

    def apps(self, cwd: Path | None, env: Mapping[str, str]) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.ask("GET", f"/apps{where(cwd, env)}")
        return found

    def list_tools(self, request: Request) -> Sequence[Mapping[str, Any]]:
        body = client.caller_of(request)
        # Bounded by the daemon, which may have to install the server first.
        tools: list[Any] = self.ask("POST", f"/tools/list/{quote(request.app)}", body, timeout=None)["tools"]
        return tools

    def call(self, request: Request) -> Reply:
        """Make the call, or read the answer to the one that the hot path sent.

        Raises:
            DaemonAway, Draining, VersionSkew: nothing was sent.
            TasakError: what the daemon reports.
        """
        state, left = self._asked.handover.state, self._asked.take_reply()
        if left is not None:
            return client.read_reply(left, show_progress) if state == "sent" else client.read_refusal(left)
        return client.call(self.connect(), request, show_progress, is_exact=self._asked.is_exact)

    def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        accepted: Sequence[int] = (200,),
        timeout: float | None = client.ANSWER_TIMEOUT,
    ) -> Any:
        """Any other question, and its JSON answer.

        Raises:
            DaemonAway: there is no daemon to be had.
            TasakError: what it reports, where the status is not among the `accepted`.
        """
        status, content = client.ask(self.connect(), method, path, body, timeout=timeout)
        if status not in accepted:
            raise client.reported(content)
        return json.loads(content)

    def connect(self) -> socket.socket:
        refuse_what_is_known(self._asked.handover.state)
        connection = launcher.connect(self._state)
        if connection is None:
            if not self._starts:
                raise DaemonAway("the daemon does not run", fix="tasak daemon start")
            refuse_if_unwanted(self._state)
            connection = launcher.start(self._state)
        if fast.peer_uid(connection) != os.geteuid():
            connection.close()
            raise DaemonAway(f"who listens on {self._state.socket} is another user")
        return connection


def refuse_what_is_known(state: str) -> None:
    """The hot path has found it out already, and waited for it."""
    if state == "hung":
        raise DaemonAway("the daemon does not answer", fix="see `tasak daemon status`")
    if state == "stranger":
        raise DaemonAway("who listens on the daemon's socket is another user")


def refuse_if_unwanted(state: StateDir) -> None:
    if is_set("TASAK_NO_DAEMON"):
        raise DaemonAway("the daemon does not run, and TASAK_NO_DAEMON is set", fix="tasak daemon start")
    if state.is_disabled:
        raise DaemonAway("the daemon is stopped", fix="tasak daemon start")


def where(cwd: Path | None, env: Mapping[str, str], **more: str) -> str:
    """A query that says where the caller stands."""
    fields = {"cwd": os.fspath(cwd)} if cwd else {}
    if config := env.get("TASAK_CONFIG"):
        fields["config"] = os.path.abspath(os.path.expanduser(config))
    return "?" + urlencode({**fields, **more})


def show_progress(progress: Mapping[str, Any]) -> None:
    output.progress(progress.get("progress"), progress.get("total"), progress.get("message"))
