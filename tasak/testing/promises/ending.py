"""The end of calls, peers and sessions: what was executed is known, or it is known that it is not."""

import asyncio

import pytest

from tasak.errors import NotExecuted, OutcomeUnknown
from tasak.plugin import Session
from tasak.testing.promises.case import LONG, ContractCase, turn
from tasak.testing.witness import CANCEL

# Long enough to be sure that an answer is being waited for.
SILENCE = 0.3


class EndPromises(ContractCase):
    async def test_cancelling_a_call_reaches_the_peer_and_the_session_goes_on(self) -> None:
        self.needs("sleep", "cancel")
        async with self.opened() as it, self.under_way(it, self.sleep, LONG) as other:
            async with self.under_way(it, self.sleep, LONG) as call:
                call.cancel()
                await self.until(lambda: it.executed(CANCEL))

            assert call.cancelled()
            assert not other.done()
            assert it.executed(CANCEL) == 1
            await self.assert_usable(it.session)

    async def test_no_answer_in_time_cancels_the_call_at_the_peer(self) -> None:
        self.needs("sleep", "cancel")
        async with self.opened() as it:
            self.need_witness(it.peer)
            with pytest.raises(OutcomeUnknown):
                await self.call(it.session, self.sleep, LONG, within=1.0)

            await self.until(lambda: it.executed(CANCEL))

    async def test_a_ping_is_answered(self) -> None:
        async with self.opened() as it:
            await self.soon(it.stage.transport.ping(it.session))

    async def test_a_ping_waits_for_the_peer(self) -> None:
        async with self.opened() as it:
            if it.peer.frozen is None:
                pytest.skip("the peer cannot be frozen")
            async with it.peer.frozen():
                ping = asyncio.ensure_future(it.stage.transport.ping(it.session))
                await asyncio.wait([ping], timeout=SILENCE)
                assert not ping.done(), "it did not ask the peer"

            await self.soon(ping)

    async def test_a_ping_of_a_dead_peer_fails(self) -> None:
        async with self.opened() as it:
            await it.peer.cut()

            await self.failure_of(it.stage.transport.ping(it.session), within=self.patience)

    async def test_the_death_of_an_idle_peer_is_noticed(self) -> None:
        async with self.opened() as it:
            await it.peer.cut()

            await self._notice_death(it.session)

    async def test_a_call_after_the_peers_death_is_never_executed(self) -> None:
        self.needs("echo")
        async with self.opened() as it:
            await it.peer.cut()
            if self.notices_idle_death:
                await self._notice_death(it.session)

            problem = await self.failure_of(self.call(it.session, self.echo, "never"), within=self.patience)
            assert isinstance(problem, NotExecuted if self.notices_idle_death else NotExecuted | OutcomeUnknown)
            assert it.executed(self.echo[0]) == 0

    async def test_a_call_that_the_peer_dies_in_is_at_once_of_unknown_outcome(self) -> None:
        self.needs("sleep")
        async with self.opened() as it, self.under_way(it, self.sleep, LONG) as call:
            await it.peer.cut()

            problem = await self.failure_of(call, within=self.notice)
            assert isinstance(problem, OutcomeUnknown)
            assert it.executed(self.sleep[0]) == 1

    async def test_a_call_that_the_peer_dies_of_is_executed_once_at_the_most(self) -> None:
        self.needs("die")
        async with self.opened() as it:
            problem = await self.failure_of(self.call(it.session, self.die, 9), within=self.patience)
            assert isinstance(problem, OutcomeUnknown)
            assert it.executed(self.die[0]) <= 1

    async def test_not_executed_is_said_only_of_what_was_not(self) -> None:
        self.needs("sleep")
        for turns in await self.moments():
            async with self.opened() as it:
                self.need_witness(it.peer)
                call = asyncio.ensure_future(self.call(it.session, self.sleep, LONG))
                await turn(turns)
                await it.peer.cut()

                problem = await self.failure_of(call, within=self.patience)
                assert isinstance(problem, NotExecuted | OutcomeUnknown)
                assert it.executed(self.sleep[0]) <= (0 if isinstance(problem, NotExecuted) else 1)

    async def test_closing_twice_is_closing_once(self) -> None:
        async with self.opened() as it:
            await it.owner.close(times=2)

    async def test_closing_after_the_peers_death_raises_nothing(self) -> None:
        async with self.opened() as it:
            await it.peer.cut()

            await it.owner.close()

    async def test_closing_after_the_peers_death_was_noticed_raises_nothing(self) -> None:
        async with self.opened() as it:
            await it.peer.cut()
            await self._notice_death(it.session)

            await it.owner.close()

    async def test_closing_makes_what_is_under_way_of_unknown_outcome(self) -> None:
        self.needs("sleep")
        async with self.opened() as it, self.under_way(it, self.sleep, LONG) as call:
            await it.owner.close()

            assert isinstance(await self.failure_of(call, within=self.notice), OutcomeUnknown)

    async def test_a_call_after_closing_is_not_executed(self) -> None:
        self.needs("echo")
        async with self.opened() as it:
            await it.owner.close()

            problem = await self.failure_of(self.call(it.session, self.echo, "never"), within=self.notice)
            assert isinstance(problem, NotExecuted)
            assert it.executed(self.echo[0]) == 0

    async def _notice_death(self, session: Session) -> None:
        if self.notices_idle_death:
            await asyncio.wait_for(session.ended.wait(), self.notice)
        else:
            listing = session.request("tools/list", None, timeout=self.patience)
            assert isinstance(await self.failure_of(listing, within=self.patience), NotExecuted | OutcomeUnknown)
