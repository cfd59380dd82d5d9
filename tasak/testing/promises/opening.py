"""Opening and closing a session, often, in vain, and half."""

import pytest

from tasak.errors import ConnectFailed
from tasak.testing.leaks import no_leaks
from tasak.testing.promises.case import ContractCase, turn
from tasak.testing.stage import SessionOwner

MANY_CYCLES = 200
FEW_CYCLES = 10


class OpeningPromises(ContractCase):
    async def test_it_connects_and_says_whom_it_talks_to(self) -> None:
        async with self.opened() as it:
            assert not it.session.ended.is_set()
            assert it.session.pid is None or it.session.pid > 0
            assert it.session.protocol_version is None or it.session.protocol_version
            assert it.session.server_info is None or it.session.server_info["name"]
            assert all(isinstance(line, str) for line in it.session.last_words())

    async def test_a_peer_that_is_not_there_is_a_failed_connect_that_leaves_nothing(self) -> None:
        async with self.peer() as peer, self.stage() as stage:
            if peer.unreachable is None:
                await peer.cut()
            app = stage.app(peer.options if peer.unreachable is None else peer.unreachable, peer.apps)
            await self._fail_to_open(stage.own(app))

            async with no_leaks(within=self.settling):
                for _ in range(3):
                    await self._fail_to_open(stage.own(app))

    async def test_a_connect_that_is_cancelled_leaves_nothing(self) -> None:
        moments = await self.moments()
        async with self.peer() as peer, self.stage() as stage:
            app = stage.app(peer.options, peer.apps)
            async with no_leaks(within=self.settling):
                for turns in moments:
                    owner = stage.own(app)
                    await turn(turns)
                    await owner.cancel()

    async def test_opening_and_closing_again_and_again_leaves_nothing(self) -> None:
        cycles = self.cycles or (FEW_CYCLES if await self.is_slow_to_open() else MANY_CYCLES)
        async with self.peer() as peer, self.stage() as stage:
            app = stage.app(peer.options, peer.apps)
            # What is made once and kept is made now.
            await self.cycle(stage.own(app))

            async with no_leaks(within=self.settling):
                for _ in range(cycles):
                    await self.cycle(stage.own(app))

    async def _fail_to_open(self, owner: SessionOwner) -> None:
        try:
            with pytest.raises(ConnectFailed):
                await self.soon(owner.opened())
        finally:
            await owner.close()
