"""The daemon, if one runs, and the port of its API."""

import errno
import socket
from collections.abc import Iterator, Mapping
from typing import Any

from tasak import __version__
from tasak.client import start_failures
from tasak.core.doctor.finding import Finding
from tasak.core.settings import PORT_VARIABLE, daemon_settings
from tasak.errors import BadConfig
from tasak.paths import StateDir


def findings(health: Mapping[str, Any], state: StateDir) -> Iterator[Finding]:
    """What a daemon that runs, with that state folder, says of itself in `health`."""
    if health.get("version") != __version__:
        what = f"the daemon that runs is tasak {health.get('version')}, and this is {__version__}"
        yield Finding("daemon", what, "tasak daemon restart")
    for each in health.get("failing", ()):
        what = f"app {each['app']!r} fails to connect: {each['last_error']}"
        tries = f"`tasak ping --start {each['app']}` tries"
        log = state.app_log(each["app"])  # only of programs
        yield Finding("app", what, f"see {log}; {tries}" if log.exists() else tries)
    for each in health.get("lost", ()):
        what = f"the last call of app {each['app']!r} got no answer: {each['last_error']}"
        yield Finding("app", what, f"`tasak ping --deep {each['app']}` asks its server whether it is there")
    for name, deed in health.get("transports", {}).items():
        yield Finding("plugin", f"the transport {name!r}: {deed}", "mend or uninstall its package")


def of_start(state: StateDir) -> Iterator[Finding]:
    """Why it did not start when that was last tried."""
    if failure := start_failures.last(state):
        yield Finding("daemon", failure.said, "`tasak daemon start` tries again")


def of_port(env: Mapping[str, str], health: Mapping[str, Any] | None, pid: int | None) -> Iterator[Finding]:
    """The port, where somebody else has it.

    A daemon that runs knows whether it has its own; one that does not answer, process `pid`, may have it, too.
    """
    try:
        settings = daemon_settings(env)
    except BadConfig as problem:
        yield Finding.of("port", problem)
        return
    if settings.port is None or (health and not health.get("tcp_problem")):
        return
    host = "127.0.0.1" if settings.host == "localhost" else settings.host
    if is_taken(host, settings.port) and (holder := holder_of(settings.port)) != (pid or 0):
        what = f"port {settings.port} of {host} is taken by {named(holder)}: the API is at the socket alone"
        yield Finding("port", what, f"end that, or set {PORT_VARIABLE} to another port or to off")


def is_taken(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as trial:
        # What a daemon of ours left behind a minute ago takes no port.
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except OSError as problem:
            return problem.errno == errno.EADDRINUSE
    return False


def holder_of(port: int) -> int | None:
    """The process that listens, as far as the machine lets us know."""
    # Lazy: only who looks for it should pay for it.
    import psutil

    try:
        for each in psutil.net_connections("tcp"):
            if each.status == psutil.CONN_LISTEN and each.laddr and each.laddr.port == port and each.pid:
                return int(each.pid)
    except psutil.Error:
        pass
    return None


def named(pid: int | None) -> str:
    import psutil

    if pid is None:
        return "a process of another user, or one that cannot be seen"
    try:
        return f"process {pid} ({psutil.Process(pid).name()})"
    except psutil.Error:
        return f"process {pid}"
