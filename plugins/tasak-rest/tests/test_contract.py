"""The promises that TASAK makes of its transports."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar

import pytest
from tasak.plugin import NotExecuted
from tasak.testing import ContractPeer, TransportContract
from workshop import Workshop


class TestRest(TransportContract):
    transport = "rest"
    lacks: ClassVar = {
        "progress": "HTTP reports none",
        "refuse": "an error of a REST service is its tool's own",
    }
    notices_idle_death = False

    @asynccontextmanager
    async def peer(self) -> AsyncIterator[ContractPeer]:
        async with Workshop() as workshop:
            yield ContractPeer(
                options={"openapi": f"{workshop.url}/openapi.json"},
                cut=workshop.cut,
                executed=lambda: workshop.executed,
                frozen=workshop.frozen,
            )

    @pytest.mark.skip(reason="a list is the description's and asks nobody; the next call or ping notices")
    async def test_the_death_of_an_idle_peer_is_noticed(self) -> None: ...

    async def test_closing_after_the_peers_death_was_noticed_raises_nothing(self) -> None:
        async with self.opened() as it:
            await it.peer.cut()
            with pytest.raises(NotExecuted):
                await self.call(it.session, self.echo, "never")

            await it.owner.close()
