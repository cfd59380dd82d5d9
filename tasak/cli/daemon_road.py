"""The road through the daemon. `DaemonAway` means here that nothing was sent: the call may go direct."""

import functools
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

from tasak import __version__
from tasak.cli import output
from tasak.cli.asked import Asked, is_set
from tasak.client import client, launcher, native, replacer, stopper
from tasak.client.patience import Watch
from tasak.errors import BadConfig, DaemonAway, OutcomeUnknown, VersionSkew, with_call_id
from tasak.paths import StateDir, home
from tasak.request import Reply, Request
from tasak.wire import CONTINUE_TIMEOUT

Result = TypeVar("Result")

RENEW = "`pip install -e .` in its checkout builds it again"


class DaemonRoad:
    """The daemon of this user. With `starts` it is started where there is none, unless the user said no."""

    def __init__(self, asked: Asked, state: StateDir, *, starts: bool = True) -> None:
        self._asked = asked
        self._state = state
        self._starts = starts
        self._watch = Watch(functools.partial(stopper.is_there, state))
        self.is_missing = False
        """It did not run when it was asked, and is not to be started."""

    def apps(self, cwd: Path | None, env: Mapping[str, str]) -> Mapping[str, Any]:
        # What the files say, we can read as well: a hung daemon is waited for as with a call.
        found: Mapping[str, Any] = self.ask("GET", f"/apps{where(cwd, env)}", timeout=CONTINUE_TIMEOUT)
        return found

    def list_tools(self, request: Request) -> Mapping[str, Any]:
        return self._of_our_version(lambda: self._listed(request))

    def _listed(self, request: Request) -> Mapping[str, Any]:
        path, body = f"/tools/list/{client.as_segment(request.app)}", client.caller_of(request)
        # Bounded by the daemon, which may have to install the server first.
        status, content = client.ask_at_length(
            self.connect(), path, body, is_exact=self._asked.is_exact, watch=self._watch
        )
        if status != 200:
            raise client.reported(content)
        return client.object_in(content)

    def call(self, request: Request) -> Reply:
        """Make the call, or read the answer to the one that the hot path sent.

        Raises:
            DaemonAway, Draining, VersionSkew: nothing was sent.
            TasakError: what the daemon reports.
        """
        try:
            return self._of_our_version(lambda: self._reply(request))
        except OutcomeUnknown as problem:
            raise with_call_id(problem, request.call_id) from problem

    def _reply(self, request: Request) -> Reply:
        state, left = self._asked.handover.state, self._asked.take_reply()
        if left is None:
            exact = self._asked.is_exact
            return client.call(self.connect(), request, show_progress, is_exact=exact, watch=self._watch)
        if state == "sent":
            return client.read_reply(left, show_progress, watch=self._watch)
        try:
            return client.read_refusal(left, watch=self._watch)
        except VersionSkew:
            if self._asked.launcher != "native" or native.version() == __version__:
                raise
        # It was the launcher that the daemon refused, and it may be the right one for us.
        output.say(f"the native launcher is of tasak {native.version()}, and this is {__version__}: {RENEW}")
        return self._reply(request)

    def _of_our_version(self, errand: Callable[[], Result]) -> Result:
        try:
            return errand()
        except VersionSkew as problem:
            self._replace(problem)
            return errand()

    def _replace(self, problem: VersionSkew) -> None:
        """Have a daemon of our own version instead, where the user lets one be started.

        Raises:
            VersionSkew: not now.
        """
        if not self._starts or self._state.is_disabled or is_set("TASAK_NO_DAEMON"):
            raise problem
        replacer.replace(self._state, problem)
        output.say(f"{problem.message}: the daemon was replaced, every session is new")

    def ask(
        self,
        method: str,
        path: str,
        *,
        accepted: Sequence[int] = (200,),
        timeout: float = client.ANSWER_TIMEOUT,
    ) -> Any:
        """Any other question, and the JSON object that answers it.

        Raises:
            DaemonAway: there is no daemon to be had.
            TasakError: what it reports, where the status is not among the `accepted`.
        """
        exact = self._asked.is_exact
        status, content = client.ask(self.connect(), method, path, is_exact=exact, timeout=timeout)
        if status not in accepted:
            raise client.reported(content)
        return client.object_in(content)

    def connect(self) -> socket.socket:
        refuse_what_is_known(self._asked.handover.state, self._state)
        refuse_what_others_can_change(self._state)
        connection = launcher.connect(self._state)
        if connection is None:
            if not self._starts:
                self.is_missing = True
                raise DaemonAway("the daemon does not run", fix="tasak daemon start")
            refuse_if_unwanted(self._state)
            connection = launcher.start(self._state)
        return connection


def refuse_what_is_known(found: str, state: StateDir) -> None:
    """The hot path has found it out already, and waited for it."""
    if found == "hung":
        raise DaemonAway("the daemon does not answer", fix="tasak daemon restart")
    if found == "stranger":
        launcher.refuse_another_user(state)


def refuse_what_others_can_change(state: StateDir) -> None:
    """The socket in it may be anybody's."""
    try:
        state.require_private()
    except BadConfig as problem:
        raise launcher.not_used(problem) from problem
    except OSError:
        return  # connecting says it better


def refuse_if_unwanted(state: StateDir) -> None:
    if is_set("TASAK_NO_DAEMON"):
        raise DaemonAway("the daemon does not run, and TASAK_NO_DAEMON is set", fix="tasak daemon start")
    launcher.require_enabled(state)


def where(cwd: Path | None, env: Mapping[str, str], **more: str) -> str:
    """A query that says where the caller stands. What is not UTF-8 of it is there byte by byte.

    Raises:
        BadConfig: it stands nowhere, and `TASAK_CONFIG` is relative.
    """
    fields = {"cwd": os.fspath(cwd)} if cwd else {}
    if named := env.get("TASAK_CONFIG"):
        # Lazy: few callers name one.
        from tasak.core.config_walk import named_path

        fields["config"] = os.fspath(named_path(named, cwd, home()))
    return "?" + urlencode({**fields, **more}, errors="surrogateescape")


def show_progress(progress: Mapping[str, Any]) -> None:
    output.progress(progress.get("progress"), progress.get("total"), progress.get("message"))
