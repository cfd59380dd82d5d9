"""A user with seven apps, and the servers behind them: each a process of its own, which can be killed."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncssh
import psutil

from tests.shell import PATIENCE, Done, Shell

HERE = Path(__file__).parent

SSH_CONFIG = """
Host lab
  HostName 127.0.0.1
  Port {port}
"""


class Server:
    """A program that listens on a port of 127.0.0.1: on the same one each time that it is started."""

    def __init__(self, script: str, *words: str, environment: dict[str, str]) -> None:
        self.port = 0
        self._script = HERE / script
        self._words = words
        self._environment = environment
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it, unless it runs; returns when it listens."""
        if self._process:
            return
        command = [sys.executable, str(self._script), str(self.port), *self._words]
        self._process = subprocess.Popen(command, env=self._environment, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def kill(self) -> None:
        """End it as a crash would, if it runs; returns when it is gone."""
        if self._process:
            with self._process:
                self._process.kill()
            self._process = None

    def programs(self) -> list[psutil.Process]:
        """What it has started."""
        assert self._process is not None
        return psutil.Process(self._process.pid).children(recursive=True)


class Servers:
    """Those that TASAK does not start, each by the name of the app that it serves."""

    def __init__(self, folder: Path) -> None:
        self.witness = folder / "witness"
        """Where notes are left."""
        self.key = asyncssh.generate_private_key("ssh-ed25519")
        """It logs in at the lab."""
        self.host_key = asyncssh.generate_private_key("ssh-ed25519")
        environment = {"HOME": str(folder), "PATH": os.environ["PATH"], "WITNESS": str(self.witness)}
        self.events = Server("counting_server.py", "sse", environment=environment)
        self.web = Server("counting_server.py", "http", environment=environment)
        self.shop = Server("rest_service.py", environment=environment)
        self.lab = Server("ssh_server.py", *self._keys(folder), environment=environment)
        self.by_app = {"events": self.events, "web": self.web, "shop": self.shop, "lab": self.lab}

    def bring_back(self) -> None:
        """Start those that do not run."""
        for server in self.by_app.values():
            server.start()

    def kill(self) -> None:
        for server in self.by_app.values():
            server.kill()

    def _keys(self, folder: Path) -> tuple[str, str]:
        host_key, authorized_keys = str(folder / "host_key"), str(folder / "authorized_keys")
        self.host_key.write_private_key(host_key)
        self.key.write_public_key(authorized_keys)
        return host_key, authorized_keys


class World:
    """The user's shell, in the folder of a project with seven apps."""

    def __init__(self, shell: Shell, servers: Servers, tasak_yaml: str) -> None:
        self.shell = shell
        self.servers = servers
        shell.cwd = shell.home / "project"
        shell.cwd.mkdir()
        (shell.cwd / "tasak.yaml").write_text(tasak_yaml)
        shell.env |= {"PYTHON": sys.executable, "SERVER": str(HERE / "counting_server.py")}
        shell.env |= {f"{app.upper()}_PORT": str(server.port) for app, server in servers.by_app.items()}
        shell.env |= {"WITNESS": str(servers.witness)}
        self._know_the_lab()

    def __call__(self, *words: str) -> Done:
        return self.shell(*words)

    def connections(self, app: str) -> list[dict[str, Any]]:
        done = self("connections", "--json")
        assert done.returncode == 0, done
        return [each for each in json.loads(done.stdout)["connections"] if each["app"] == app]

    def processes(self, app: str) -> list[psutil.Process]:
        """The processes that run for the app alone: on this machine, or in the lab."""
        if app == "lab":
            return self.servers.lab.programs()
        return [psutil.Process(process["pid"]) for each in self.connections(app) for process in each["processes"]]

    def notes(self) -> list[str]:
        """What was left by calls of `slow`."""
        return self.servers.witness.read_text().splitlines() if self.servers.witness.exists() else []

    def _know_the_lab(self) -> None:
        """What `ssh lab` needs: where it is, the key to log in with, and the key that the host is known by."""
        folder = self.shell.home / ".ssh"
        folder.mkdir(mode=0o700)
        port = self.servers.lab.port
        (folder / "config").write_text(SSH_CONFIG.format(port=port))
        self.servers.key.write_private_key(folder / "id_lab")
        host_key = self.servers.host_key.export_public_key().decode()
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}")


@contextmanager
def inhabited(folder: Path, tasak_yaml: str) -> Iterator[World]:
    """A world whose servers run. At the end nothing of it does; that no process of the user's is left is checked."""
    servers = Servers(folder)
    try:
        servers.bring_back()
        with Shell() as shell:
            yield World(shell, servers, tasak_yaml)
    finally:
        servers.kill()


def end(processes: Sequence[psutil.Process]) -> None:
    """Kill them; returns when they are gone."""
    assert processes, "there is nothing to kill"
    for process in processes:
        process.kill()
    _, left = psutil.wait_procs(processes, timeout=PATIENCE)
    assert left == []


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "it did not come to hold"
        time.sleep(0.01)  # a file sets no event
