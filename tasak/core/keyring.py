"""Values from the system's keyring, by way of the library `keyring`, which the extra `tasak[keyring]` installs.

A keyring may ask its user for a password before it answers, so it is read in a thread, and what it said is believed for
a minute.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from tasak.errors import BadConfig
from tasak.importing import load
from tasak.secret import Secret

# As long as an agent works on one thing; a password that was changed counts after that.
BELIEVED = 60.0

# A user who was asked for the keyring's password.
PATIENCE = 60.0


class Unread(Exception):
    """The entry has to be read first (`Keyring.read`). `where` names the app for the error's reader."""

    def __init__(self, name: str, where: str) -> None:
        super().__init__(name)
        self.name = name
        self.where = where


class Keyring:
    """What was read lately."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._read: dict[str, tuple[float, Secret]] = {}

    def entry(self, name: str, where: str) -> Secret:
        """What was read of the entry `service/name`.

        Raises:
            Unread: nothing, or too long ago.
            BadConfig: that is no name of an entry.
        """
        if not all(name.rpartition("/")):
            raise BadConfig(f"{where}: ${{keyring:{name}}} names no entry", fix="write ${keyring:service/name}")
        at, value = self._read.get(name, (0.0, None))
        if value is None or self._clock() - at > BELIEVED:
            raise Unread(name, where)
        return value

    async def read(self, wanted: Unread) -> None:
        """Read the entry.

        Raises:
            BadConfig: it is not there, or cannot be read.
        """
        where = f"{wanted.where}: ${{keyring:{wanted.name}}}"
        try:
            async with asyncio.timeout(PATIENCE):
                value = await in_thread(lambda: password(wanted.name))
        except TimeoutError:
            raise BadConfig(f"{where}: the keyring does not answer", fix="unlock it") from None
        except ImportError:
            raise BadConfig(
                f"{where} needs the library `keyring`, which is not installed", fix="pip install 'tasak[keyring]'"
            ) from None
        except Exception as problem:  # noqa: BLE001 - a backend of anybody's, and what it says may be anything
            raise BadConfig(
                f"{where}: the keyring cannot be read ({type(problem).__name__})", fix="`keyring diagnose` tells more"
            ) from None
        if not value:
            service, _, name = wanted.name.rpartition("/")
            raise BadConfig(f"{where}: there is no such entry", fix=f"keyring set {service} {name}")
        self._read[wanted.name] = (self._clock(), Secret(value))


def password(name: str) -> str | None:
    # Lazy: 70 ms, for the few who use it; and the library need not be there.
    keyring = load("keyring")
    service, _, user = name.rpartition("/")
    found: str | None = keyring.get_password(service, user)
    return found


async def in_thread(work: Callable[[], str | None]) -> str | None:
    """What the work comes to, in a thread that the end of the process does not wait for."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[str | None] = loop.create_future()

    def settle(value: str | None, problem: BaseException | None) -> None:
        if not answer.done():
            if problem is None:
                answer.set_result(value and Secret(value))
            else:
                answer.set_exception(problem)

    def run() -> None:
        value = problem = None
        try:
            value = work()
        except Exception as raised:  # noqa: BLE001 - it is raised where it is waited for
            problem = raised
        with suppress(RuntimeError):  # nobody waits any more, and the loop is closed
            loop.call_soon_threadsafe(settle, value, problem)

    threading.Thread(target=run, name="keyring", daemon=True).start()
    return await answer
