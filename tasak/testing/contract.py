"""What every transport promises, as tests: subclass, say how your peer is reached, and run pytest.

A whole test module, here for the transport `stdio`:

    from contextlib import asynccontextmanager

    from tasak.testing import StdioServer, TransportContract


    class TestStdio(TransportContract):
        transport = "stdio"

        @asynccontextmanager
        async def peer(self):
            with StdioServer() as server:
                options = {"command": server.command, "env": server.env}
                yield server.peer(options, unreachable={"command": "false"})

`transport` is the name of your entry point, or the module itself. `StdioServer` is a program to be started by whatever
your transport reaches, `HttpServer` one that listens (`async with HttpServer() as server: yield
server.peer({"url": server.url})`). A server of your own offers the same tools, under names that you give as class
attributes, and you yield a `ContractPeer`. The tests are async functions and need pytest-asyncio.

What your transport or its peer cannot do is said, each with a reason, and shown as skipped:

        echo = ("repeat", "message")
        lacks = {"progress": "a REST service reports none"}

A single promise that cannot hold is skipped by a method of the same name with `@pytest.mark.skip(reason=…)`.
"""

from tasak.testing.promises.calling import CallPromises
from tasak.testing.promises.ending import EndPromises
from tasak.testing.promises.opening import OpeningPromises
from tasak.testing.promises.options import OptionPromises


class TransportContract(OptionPromises, OpeningPromises, CallPromises, EndPromises):
    """The promises of a transport. Each test opens a peer and a session of its own, and leaves nothing behind."""
