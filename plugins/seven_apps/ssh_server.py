"""An SSH server that runs what it is asked to, as sshd does: `ssh_server.py PORT HOST_KEY AUTHORIZED_KEYS`."""

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE

import asyncssh
from places import listening


async def run(session: asyncssh.SSHServerProcess[bytes]) -> None:
    """The command of one session, as a program of this machine."""
    assert session.command is not None
    program = await asyncio.create_subprocess_shell(
        session.command, stdin=PIPE, stdout=PIPE, stderr=PIPE, start_new_session=True
    )
    await session.redirect(program.stdin, program.stdout, program.stderr)
    status = await program.wait()
    if status < 0:
        session.exit_with_signal(signal.Signals(-status).name.removeprefix("SIG"))
    else:
        session.exit(status)


async def main(port: int, host_key: str, authorized_keys: str) -> None:
    with listening(port) as place:
        await asyncssh.listen(
            sock=place,
            server_host_keys=[host_key],
            authorized_client_keys=authorized_keys,
            process_factory=run,
            encoding=None,
        )
        await asyncio.Event().wait()


asyncio.run(main(int(sys.argv[1]), *sys.argv[2:]))
