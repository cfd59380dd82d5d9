"""An SSH server on loopback that does what sshd does: it runs real processes, and hands them what comes."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import asyncssh


class Running(asyncssh.SSHServerSession[bytes]):
    """A channel and the process at its end, in a group of its own."""

    def __init__(self, server: "Sshd") -> None:
        self.pid: int | None = None
        self._server = server
        self._early: list[bytes | None] = []
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, chan: Any) -> None:
        self._channel = chan

    def exec_requested(self, command: str) -> bool:
        self._server.commands.append(command)
        return not self._server.refuses_commands

    def pty_requested(self, *_: Any) -> bool:
        self._server.requests.append("pty")
        return True

    def x11_requested(self, *_: Any) -> bool:
        self._server.requests.append("x11")
        return True

    def session_started(self) -> None:
        self._server.begin(self._run())

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        self._pass_on(data)

    def eof_received(self) -> bool:
        self._pass_on(None)
        return True

    def signal_received(self, signal: str) -> None:
        self._server.signals.append(signal)
        self.kill(signal)

    def kill(self, name: str) -> None:
        assert self.pid is not None
        with suppress(ProcessLookupError):
            os.killpg(self.pid, getattr(signal, f"SIG{name}"))

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._writable.set()
        self._pass_on(None)

    def _pass_on(self, data: bytes | None) -> None:
        if self.pid is None:
            self._early.append(data)
        elif data is None:
            self._stdin.close()
        elif not self._stdin.is_closing():
            self._stdin.write(data)

    async def _run(self) -> None:
        process = await asyncio.create_subprocess_exec(
            "/bin/sh",
            "-c",
            self._channel.get_command(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**self._server.environment, **self._accepted()},
            cwd=self._server.home,
            start_new_session=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self.pid, self._stdin = process.pid, process.stdin
        self._server.running.append(self)
        for data in self._early:
            self._pass_on(data)
        await asyncio.gather(
            self._pump(process.stdout, None), self._pump(process.stderr, asyncssh.EXTENDED_DATA_STDERR)
        )
        self._report(await process.wait())
        process._transport.close()

    async def _pump(self, stream: asyncio.StreamReader, datatype: asyncssh.DataType) -> None:
        while chunk := await stream.read(1 << 16):
            await self._writable.wait()
            if not self._channel.is_closing():
                self._channel.write(chunk, datatype)

    def _accepted(self) -> Mapping[str, str]:
        sent = self._channel.get_environment()
        return {name: value for name, value in sent.items() if name in self._server.accepted}

    def _report(self, status: int) -> None:
        if self._channel.is_closing():
            return
        if status < 0:
            self._channel.exit_with_signal(signal.Signals(-status).name.removeprefix("SIG"))
        else:
            self._channel.exit(status)


class Sshd:
    """The server. What it was asked to do stands in `commands` and `signals`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environment = {"PATH": "/usr/bin:/bin", "HOME": str(home), "SHELL": "/bin/sh"}
        self.accepted: set[str] = set()
        self.refuses_commands = False
        self.accepted_keys: list[asyncssh.SSHKey] = []
        self.offered_keys: set[str] = set()
        self.passwords: list[str] = []
        self.host_key = asyncssh.generate_private_key("ssh-ed25519")
        self.connections: list[asyncssh.SSHServerConnection] = []
        self.commands: list[str] = []
        self.signals: list[str] = []
        self.requests: list[str] = []
        """What else was asked for: a terminal, X11."""
        self.running: list[Running] = []
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def cut(self) -> None:
        """Break every connection off, as a network does."""
        for connection in self.connections:
            connection.abort()

    def freeze(self) -> None:
        """Be silent on every connection, as a machine is whose power has failed."""
        for connection in self.connections:
            connection._transport.pause_reading()

    def begin(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @property
    def known_hosts_line(self) -> str:
        return f"[127.0.0.1]:{self.port} {self.host_key.export_public_key().decode()}"

    @asynccontextmanager
    async def serving(self, *accepted_keys: asyncssh.SSHKey, **options: Any) -> AsyncIterator["Sshd"]:
        """Listen; whatever still runs at the end is killed."""
        self.accepted_keys = [key.convert_to_public() for key in accepted_keys]
        listening = await asyncssh.create_server(
            lambda: Login(self),
            "127.0.0.1",
            0,
            server_host_keys=[self.host_key],
            encoding=None,
            x11_forwarding=True,
            **options,
        )
        self.port = listening.get_port()
        try:
            yield self
        finally:
            self.cut()
            listening.close()
            for running in self.running:
                running.kill("KILL")
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=10)
            await listening.wait_closed()


class Login(asyncssh.SSHServer):
    def __init__(self, server: Sshd) -> None:
        self._server = server

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._server.connections.append(conn)

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        self._server.offered_keys.add(key.get_fingerprint())
        return key in self._server.accepted_keys

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        self._server.passwords.append(password)
        return True

    def session_requested(self) -> Running:
        return Running(self._server)

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
        return True  # a jump host
