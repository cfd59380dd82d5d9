"""Calls: their answers, their errors, their progress and their time."""

import time
from typing import Any

import pytest

from tasak.errors import OutcomeUnknown, ServerError
from tasak.plugin import Progress, Session
from tasak.testing.promises.case import LONG, ContractCase, text_of

CALLERS = 50
LARGE = 8 << 20
UNICODE = 'zażółć gęślą jaźń, "quoted", \\ and 🐛\u2028\n'


class CallPromises(ContractCase):
    async def test_the_tools_are_listed(self) -> None:
        async with self.opened() as it:
            listed = await self._listed(it.session)

        assert all(isinstance(tool["inputSchema"], dict) for tool in listed)
        assert self._tool_names() <= {tool["name"] for tool in listed}

    async def test_a_call_is_answered(self) -> None:
        self.needs("echo")
        async with self.opened() as it:
            assert await self.text(it.session, self.echo, UNICODE) == UNICODE

    async def test_many_calls_share_one_session_and_each_gets_its_own_answer(self) -> None:
        self.needs("echo")
        texts = [f"call {number}" for number in range(CALLERS)]
        async with self.opened() as it:
            assert texts == await self.together(self.text(it.session, self.echo, text) for text in texts)

    async def test_a_session_keeps_its_state_between_calls(self) -> None:
        self.needs("counter")
        async with self.opened() as it:
            counts = await self.together(self.text(it.session, self.counter) for _ in range(CALLERS))

        assert [*range(1, CALLERS + 1)] == sorted(int(count) for count in counts)

    async def test_a_slow_call_does_not_hold_up_another(self) -> None:
        self.needs("sleep", "echo")
        async with self.opened() as it, self.under_way(it, self.sleep, LONG) as slow:
            assert await self.text(it.session, self.echo, "quick") == "quick"
            assert not slow.done()

    async def test_a_large_result_arrives_whole(self) -> None:
        self.needs("big")
        async with self.opened() as it:
            text = await self.text(it.session, self.big, LARGE)

        assert len(text) == LARGE
        assert {text[0]} == set(text)

    async def test_a_tools_own_error_is_a_result(self) -> None:
        self.needs("fail")
        async with self.opened() as it:
            result = await self.call(it.session, self.fail, "as asked")

        assert result["isError"] is True
        assert "as asked" in text_of(result)

    async def test_a_json_rpc_error_is_the_servers_and_the_session_goes_on(self) -> None:
        self.needs("refuse")
        async with self.opened() as it:
            with pytest.raises(ServerError):
                await self.call(it.session, self.refuse, -32000)
            await self.assert_usable(it.session)

    async def test_an_unknown_method_is_the_servers_error_and_the_session_goes_on(self) -> None:
        async with self.opened() as it:
            with pytest.raises(ServerError):
                await self.soon(it.session.request("no/such/method", None, timeout=self.patience))
            await self.assert_usable(it.session)

    async def test_an_unknown_tool_is_the_servers_error_and_the_session_goes_on(self) -> None:
        self.needs("unknown_tool")
        async with self.opened() as it:
            try:
                result = await self.call(it.session, ("no_such_tool",))
            except ServerError:
                pass
            else:
                assert result["isError"] is True
            await self.assert_usable(it.session)

    async def test_progress_reaches_the_call_that_it_is_of(self) -> None:
        self.needs("progress")
        three: list[Progress] = []
        five: list[Progress] = []
        async with self.opened() as it:
            calls = [
                self.call(it.session, self.progress, 3, 0.01, on_progress=three.append),
                self.call(it.session, self.progress, 5, 0.01, on_progress=five.append),
            ]
            await self.together(calls)

        assert [(step, 3) for step in (1, 2, 3)] == [(each.progress, each.total) for each in three]
        assert [(step, 5) for step in (1, 2, 3, 4, 5)] == [(each.progress, each.total) for each in five]

    async def test_each_progress_starts_the_time_anew(self) -> None:
        self.needs("progress")
        async with self.opened() as it:
            # Half as long again in all, and a quarter of it each.
            await self.call(it.session, self.progress, 6, 0.25, within=1.0)

    async def test_no_answer_in_time_is_an_unknown_outcome_and_the_session_goes_on(self) -> None:
        self.needs("sleep")
        async with self.opened() as it:
            began = time.monotonic()
            with pytest.raises(OutcomeUnknown):
                await self.call(it.session, self.sleep, LONG, within=1.0)

            assert time.monotonic() - began < 1.0 + self.notice
            await self.assert_usable(it.session)

    def _tool_names(self) -> set[str]:
        tools = ("echo", "counter", "sleep", "progress", "big", "fail", "refuse", "die")
        return {getattr(self, tool)[0] for tool in tools if tool not in self.lacks}

    async def _listed(self, session: Session) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = []
        cursor: dict[str, Any] | None = {}
        while cursor is not None:
            page = await self.soon(session.request("tools/list", cursor, timeout=self.patience))
            listed += page["tools"]
            cursor = {"cursor": page["nextCursor"]} if page.get("nextCursor") else None
        return listed
