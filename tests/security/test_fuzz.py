"""Whatever comes in through our doors: only errors of our own come of it, soon, and what goes out is what it should be.

Each runs a few examples in any run of the tests, and thousands among the slow ones.
"""

import asyncio
import json
import math
import unicodedata
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCResponse

from tasak.auth.store import AuthorizationServer, Login, TokenStore
from tasak.bodies import call_request, list_request
from tasak.client import start_failures
from tasak.core.call_journal import Journal
from tasak.core.call_record import Claim, Ending, remembered
from tasak.core.config_file import BrokenFile, ConfigFile, FileReader
from tasak.core.config_text import parse
from tasak.core.exchange import Exchange
from tasak.core.schema import TooMuch, weight
from tasak.core.strict_json import MAX_DEPTH as DEEPEST
from tasak.core.strict_json import Flawed, NotJson, from_json
from tasak.errors import BadConfig, BadRequest, TasakError
from tasak.inert import inert, inert_json, one_line
from tasak.paths import StateDir
from tasak.request import Request
from tasak.transports import stdout
from tasak.transports.event_stream import Events
from tasak.transports.incoming import Bookmark, Incoming
from tasak.transports.lines import LineReader
from tasak.transports.mailbox import Mailbox
from tasak.transports.messages import message_of
from tasak.transports.site import Site
from tasak.transports.stderr import as_texts
from tasak.wire import LONGEST_TIMEOUT
from tests.transports.pipes import piped

FEW, MANY = 40, 1500

runs = pytest.mark.parametrize(
    "examples", [FEW, pytest.param(MANY, marks=[pytest.mark.slow, pytest.mark.timeout(900)])], ids=["few", "many"]
)


def holds_for(examples: int, *given_are: st.SearchStrategy[Any], **named: st.SearchStrategy[Any]) -> Callable[..., Any]:
    """Run what it decorates, at once, for so many examples."""
    how = settings(
        max_examples=examples,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    return lambda test: how(given(*given_are, **named)(test))()


# What is nearly right finds more than what is anything.
WORDS = st.sampled_from(
    ["tool", "arguments", "argv", "cwd", "env", "session", "timeout", "tty", "call_id", "jsonrpc", "id", "method",
     "params", "result", "error", "code", "message", "progressToken", "progress", "total", "requestId", "/", "2.0",
     "notifications/progress", "notifications/cancelled", "data", "begun", "ended", "at", "owner", "app", "what",
     "lasts", "outcome", "exit", "executed", "count", "said", "\x1b[2J", "\u202e", "\U000e0041", "\ud800", "\0", "\n"]
)  # fmt: skip
NUMBERS = st.integers() | st.floats() | st.sampled_from([0, 1, -1, 1000, 1001, 2**53 + 1, 10**400, 1e308])
SCALARS = st.none() | st.booleans() | NUMBERS | st.text(max_size=8) | WORDS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=5), max_leaves=15
)


@st.composite
def documents(draw: st.DrawFn, values: st.SearchStrategy[Any] = VALUES) -> bytes:
    """JSON, or what Python takes for it, and some of it damaged."""
    content = json.dumps(draw(values), ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, len(content)))
        damage = draw(st.binary(max_size=4) | st.sampled_from([b"NaN", b"1e999", b'"', b"{", b"[" * 100, b"9" * 5000]))
        content = content[:place] + damage + content[place + draw(st.integers(0, 3)) :]
    return content


def is_quiet(text: str) -> bool:
    """Whether nothing in it does anything to a terminal."""
    return all(each in "\n\t" or unicodedata.category(each) not in ("Cc", "Cs", "Zl", "Zp") for each in text)


# ── what callers send ────────────────────────────────────────────────────────────────────────────────────────────

PATHS = st.sampled_from(["/", "/tmp", "tmp", "", "/a\0b", "/\udcff", "/\ud800"]) | st.text(max_size=5)
TEXTS = st.text(max_size=5) | WORDS | st.sampled_from(["\udc80", "\udcff"])
FIELDS = {
    "tool": TEXTS | VALUES,
    "arguments": st.dictionaries(TEXTS, VALUES, max_size=3) | VALUES,
    "argv": st.lists(TEXTS, max_size=4) | VALUES,
    "cwd": PATHS | VALUES,
    "env": st.dictionaries(TEXTS, TEXTS, max_size=3) | VALUES,
    "session": TEXTS | VALUES,
    "timeout": NUMBERS | VALUES,
    "tty": st.booleans() | VALUES,
    "call_id": TEXTS | VALUES,
}
LIKELY = {"tool": TEXTS, "argv": st.lists(TEXTS, max_size=4)}
REST = {name: values for name, values in FIELDS.items() if name not in ("tool", "argv", "arguments")}
BODIES = st.fixed_dictionaries({}, optional=FIELDS) | st.fixed_dictionaries(LIKELY, optional=REST)


@runs
def test_the_body_of_a_request_is_what_it_should_be_or_refused(examples):
    taken: list[Request] = []

    @holds_for(examples, st.binary(max_size=60) | documents(BODIES | VALUES))
    def _(content: bytes) -> None:
        for read in (call_request, list_request):
            try:
                asked = read("app", content)
            except BadRequest as refused:
                assert refused.message.encode("utf-8", "surrogateescape")  # noqa: PT017 - either is right
                continue
            taken.append(asked)
            assert asked.cwd is not None
            assert asked.cwd.is_absolute()
            assert asked.timeout is None or 0 < asked.timeout <= LONGEST_TIMEOUT
            assert isinstance(asked.is_terminal, bool)
            assert all(isinstance(each, str) for each in (*asked.argv, *asked.env, *asked.env.values()))
            assert (asked.arguments is None) or from_json(json.dumps(asked.arguments)) == asked.arguments

    assert taken


@runs
def test_strict_json_is_json_to_everyone_or_refused(examples):
    @holds_for(examples, documents() | st.binary(max_size=40))
    def _(content: bytes) -> None:
        try:
            value = from_json(content.decode())
        except (NotJson, Flawed, UnicodeDecodeError):
            return
        text = json.dumps(value, allow_nan=False)
        assert value == json.loads(text)
        assert depth_of(value) <= DEEPEST


def depth_of(value: Any) -> int:
    inner = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    return max(map(depth_of, inner), default=0) + isinstance(value, dict | list)


# ── what servers send ────────────────────────────────────────────────────────────────────────────────────────────

IDS = st.sampled_from([1000, 1001, "1000", 0, -1, 1.5, None, True, "9" * 5000]) | VALUES
ANSWERS = st.fixed_dictionaries({"jsonrpc": st.just("2.0"), "id": IDS}, optional={"result": VALUES, "error": VALUES})
ERRORS = st.fixed_dictionaries({"code": NUMBERS, "message": TEXTS}, optional={"data": VALUES})
REFUSALS = st.fixed_dictionaries({"jsonrpc": st.just("2.0"), "id": IDS, "error": ERRORS})
PROGRESS = st.fixed_dictionaries(
    {}, optional={"progressToken": IDS, "progress": NUMBERS, "total": VALUES, "message": VALUES}
)
NOTES = st.fixed_dictionaries(
    {"jsonrpc": st.just("2.0"), "method": WORDS}, optional={"params": PROGRESS | VALUES, "id": IDS}
)
MESSAGES = ANSWERS | REFUSALS | NOTES | VALUES
CHUNKS = st.lists(st.integers(1, 40), max_size=6)


def in_pieces(content: bytes, lengths: list[int]) -> list[bytes]:
    pieces = []
    for length in lengths:
        pieces.append(content[:length])
        content = content[length:]
    return [*pieces, content]


@runs
def test_lines_are_messages_or_passed_over_and_reading_goes_on_to_the_end(examples):
    @holds_for(examples, st.lists(documents(MESSAGES) | st.binary(max_size=40), max_size=5), CHUNKS)
    def _(lines: list[bytes], lengths: list[int]) -> None:
        content = b"\n".join([*lines, b'\n{"jsonrpc":"2.0","id":77,"result":{}}\n'])
        messages, reader = asyncio.run(read_lines(in_pieces(content, lengths)))

        assert 77 == messages[-1].id
        assert reader.problem is None
        assert len(messages) + reader.strange_lines <= content.count(b"\n")
        assert is_quiet(reader.first_strange)
        for message in messages:
            json.dumps(message.model_dump(by_alias=True), allow_nan=False)


async def read_lines(pieces: list[bytes]) -> tuple[list[Any], LineReader]:
    stream = asyncio.StreamReader(limit=1 << 20)
    for piece in pieces:
        stream.feed_data(piece)
    stream.feed_eof()
    reader = LineReader(stream)
    async with asyncio.timeout(10):
        return [item.message async for item in reader if isinstance(item, SessionMessage)], reader


TURNS = st.integers(0, 6)
TEXT = st.sampled_from([b"a\n", b"b\n", b"b\r\n", b"\n", b"a" * 30 + b"\n", b"b" * 300 + b"\n"])
CUTS = st.just([]) | st.lists(st.integers(1, 40), max_size=3)
LINES = st.lists(st.tuples(TEXT, CUTS), max_size=8)


@runs
def test_lines_keep_their_order_however_they_are_cut_and_whoever_takes_some_as_they_come(examples, monkeypatch):
    monkeypatch.setattr(stdout, "ROOM", 16)
    found: set[bool] = set()

    @holds_for(examples, LINES, st.sampled_from([b"", b"a", b"rest"]), st.lists(TURNS, max_size=9), st.lists(TURNS))
    def _(lines: list[tuple[bytes, list[int]]], rest: bytes, writes: list[int], reads: list[int]) -> None:
        pieces = [piece for line, cuts in lines for piece in in_pieces(line, cuts)]
        heard = asyncio.run(hear([*pieces, rest], writes, reads))

        assert [line for line in (*(line for line, _ in lines), rest) if line] == [line for line, _ in heard]
        assert all(line.startswith(b"a") and line.endswith(b"\n") for line, was_taken in heard if was_taken)
        found.update(was_taken for _, was_taken in heard)

    assert {True, False} == found


async def hear(pieces: list[bytes], writes: list[int], reads: list[int]) -> list[tuple[bytes, bool]]:
    """Each line, and whether it was taken as it came. After a piece, or a line, some turns of the loop go by."""
    heard: list[tuple[bytes, bool]] = []

    def takes(line: bytes) -> bool:
        is_taken = line.startswith(b"a")
        if is_taken:
            heard.append((line, True))
        return is_taken

    async def read() -> None:
        turns = iter(reads)
        while line := await pipe.lines.readline():
            heard.append((line, False))
            await turns_of_the_loop(next(turns, 1))

    async with piped() as pipe:
        pipe.lines.first = takes
        reading = asyncio.create_task(read())
        turns = iter(writes)
        for piece in pieces:
            pipe.say(piece)
            await turns_of_the_loop(next(turns, 2))
        pipe.close()
        await reading
    return heard


async def turns_of_the_loop(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


LIKELY_RESULT = {
    "jsonrpc": st.just("2.0"),
    "id": st.sampled_from([1000, 1000.0, "1000"]),
    "result": st.dictionaries(WORDS, VALUES, max_size=3),
}
RESULTS = st.permutations(list(LIKELY_RESULT)).flatmap(
    lambda names: st.fixed_dictionaries({name: LIKELY_RESULT[name] for name in names})
)


@runs
def test_a_line_that_is_taken_as_it_comes_says_what_it_would_have_said_later(examples):
    taken: list[bytes] = []

    @holds_for(examples, documents(ANSWERS | RESULTS))
    def _(line: bytes) -> None:
        result = asyncio.run(taken_from(line))
        if result is not None:
            taken.append(line)
            message = message_of(line)
            assert isinstance(message, JSONRPCResponse)
            assert (1000, result) == (message.id, message.result)

    assert taken


async def taken_from(line: bytes) -> dict[str, Any] | None:
    exchange = Exchange(Nothing(), Nothing(), why_ended)  # type: ignore[arg-type]  # nothing is read or written
    asking = asyncio.create_task(exchange.request("tools/call", {}, timeout=10))
    await asyncio.sleep(0)
    is_taken = exchange.takes_line(line)
    exchange.end()
    try:
        return await asking if is_taken else None
    finally:
        asking.cancel()


EVENTS = st.lists(
    st.sampled_from([b"event: message\n", b"event: endpoint\n", b"event:\n", b": x\n", b"id: 1\n", b"id: \0\n"])
    | st.sampled_from(
        [b"retry: 1\n", b"retry: -1\n", b"retry: " + b"9" * 400 + b"\n", b"data:\n", b"\n", b"\r", b"\r\n"]
    )
    | documents(MESSAGES).map(lambda text: b"data: " + text + b"\n\n")
    | st.binary(max_size=20),
    max_size=8,
).map(b"".join)


def site_that_sends(pieces: list[bytes], kind: str, status: int = 200) -> Site:
    """A server at the other end of a transport that has no network."""

    async def body() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(status, headers={"content-type": kind}, content=body())

    client = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
    return Site(client, "http://server.test/mcp", limit=1 << 16)


@runs
@pytest.mark.parametrize("kind", ["text/event-stream", "application/json"])
def test_what_a_server_answers_over_http_is_read_or_an_error_of_ours(examples, kind):
    @holds_for(examples, EVENTS | documents(MESSAGES) | st.binary(max_size=40), CHUNKS)
    def _(content: bytes, lengths: list[int]) -> None:
        with suppress(TasakError):
            mailbox, was_answered = asyncio.run(read_answer(in_pieces(content, lengths), kind))
            if was_answered:
                assert 1000 in [getattr(message, "id", None) for message in mailbox]


async def read_answer(pieces: list[bytes], kind: str) -> tuple[list[Any], bool]:
    site, mailbox, bookmark = site_that_sends(pieces, kind), Mailbox(), Bookmark()
    incoming = Incoming(site, mailbox, dict)
    try:
        async with asyncio.timeout(10), site.exchange("GET", {}) as response:
            was_answered = await incoming.read(response, 1000, bookmark)
            assert 0 <= bookmark.pause(2) <= 30
    finally:
        await site.aclose()
    mailbox.close()
    return [item.message async for item in mailbox if isinstance(item, SessionMessage)], was_answered


async def read_refusal(content: bytes, status: int) -> None:
    site, mailbox = site_that_sends([content], "application/json", status), Mailbox()
    try:
        async with asyncio.timeout(10), site.exchange("GET", {}) as response:
            await Incoming(site, mailbox, dict).read_refusal(response, 1000)
    except TasakError as problem:
        assert is_quiet(problem.message)  # noqa: PT017 - either is right
        raise
    finally:
        await site.aclose()


@runs
def test_what_a_server_refuses_over_http_is_an_error_of_ours(examples):
    @holds_for(examples, documents(MESSAGES) | st.binary(max_size=400), st.sampled_from([400, 401, 404, 500]))
    def _(content: bytes, status: int) -> None:
        with suppress(TasakError):
            asyncio.run(read_refusal(content, status))


async def read_events(pieces: list[bytes]) -> None:
    site = site_that_sends(pieces, "text/event-stream")
    try:
        async with asyncio.timeout(10), site.exchange("GET", {}) as response:
            events = Events(site, response)
            with suppress(TasakError):
                await events.endpoint()
            async for item in events:
                assert isinstance(item, SessionMessage)
            assert events.has_ended
    finally:
        await site.aclose()


@runs
def test_a_stream_of_events_is_read_to_its_end(examples):
    @holds_for(examples, EVENTS, CHUNKS)
    def _(content: bytes, lengths: list[int]) -> None:
        asyncio.run(read_events(in_pieces(content, lengths)))


async def exchange_with(said: list[Any]) -> None:
    # As they come from the reader of lines: JSON, and JSON-RPC.
    messages = []
    for each in said:
        with suppress(ValueError):
            messages.append(message_of(json.dumps(each).encode()))
    exchange = Exchange(Nothing(), Nothing(), why_ended)  # type: ignore[arg-type]  # nothing is read or written
    asking = asyncio.create_task(exchange.request("tools/call", {}, timeout=10))
    await asyncio.sleep(0)
    for message in messages:
        if not exchange.takes(message):
            exchange.hears(message)
    exchange.end()
    with suppress(TasakError):
        assert isinstance(await asking, dict)


@runs
def test_no_message_of_a_server_ends_a_session_or_answers_two_requests(examples):
    @holds_for(examples, st.lists(MESSAGES, max_size=5))
    def _(said: list[Any]) -> None:
        asyncio.run(exchange_with(said))


class Nothing:
    """A stream that takes all there is."""

    async def send(self, item: SessionMessage) -> None:
        pass


async def why_ended() -> str:
    return "it ended"


@runs
def test_what_a_value_weighs_is_bounded(examples):
    @holds_for(examples, VALUES, st.integers(1, 50))
    def _(value: Any, most: int) -> None:
        try:
            assert 1 <= weight(value, most) <= most
        except TooMuch:
            assert weight(value, 10_000) > most


# ── what goes out ────────────────────────────────────────────────────────────────────────────────────────────────

ANYTHING = st.text(st.characters() | st.sampled_from("\x1b\x9b\r\b\x7f\u202e\u2028\U000e0041\ud800\udfff\n\t\x00"))


@runs
def test_what_is_made_inert_does_nothing_and_says_the_same(examples):
    @holds_for(examples, ANYTHING, st.integers(1, 40))
    def _(text: str, limit: int) -> None:
        shown = inert(text)
        line = one_line(text, limit)

        assert is_quiet(shown)
        assert shown.encode().decode() == inert(shown)
        assert is_quiet(line)
        assert len(line) <= limit
        assert not {"\n", "\t"} & {*line}
        assert json.loads(inert_json(json.dumps(text))) == json.loads(json.dumps(text))


@runs
def test_what_a_server_says_on_stderr_is_kept_inert_line_by_line(examples):
    @holds_for(examples, st.lists(st.binary(max_size=30).map(lambda line: line.replace(b"\n", b"")), max_size=5))
    def _(lines: list[bytes]) -> None:
        texts = as_texts(lines)

        assert max(len(lines), 1) == len(texts)
        assert all(is_quiet(text) and "\n" not in text for text in texts)


# ── what stands in files ─────────────────────────────────────────────────────────────────────────────────────────

YAML = st.text(alphabet="ab{}[]:,&*<-?!'\"#|>%@` \n\t1.~\\") | st.text(alphabet=st.characters(codec="utf-8"))
TOKENS = st.sampled_from(
    ["apps:\n", "  a: ", "{command: x}", "&a ", "*a", "<<: ", "- ", "!!str ", "---\n", "\n", "  ", "? ", ": ", "|\n",
     "settings: ", "isolate: ", "mcpServers: ", "{idle_ttl: ", "}", ".inf", "0b1", "1e9", "~", "${X}", "'", '"', "\t"]
)  # fmt: skip
CONFIGS = (
    YAML.map(str.encode)
    | st.lists(TOKENS, max_size=12).map(lambda each: "".join(each).encode())
    | documents()
    | st.binary(max_size=60)
)


@runs
def test_a_config_file_says_something_or_what_is_wrong_with_it(examples, tmp_path):
    path = tmp_path / "tasak.yaml"

    @holds_for(examples, CONFIGS)
    def _(content: bytes) -> None:
        path.unlink(missing_ok=True)
        path.write_bytes(content)
        path.chmod(0o600)

        found = FileReader(parse).read(path, tmp_path, is_users_own=True)

        assert isinstance(found, ConfigFile | BrokenFile)
        if isinstance(found, BrokenFile):
            assert str(path) in found.message
            assert found.message.encode()
        else:
            assert all(isinstance(name, str) for name in found.apps)


CLAIM = Claim(call_id="c", app="a", tool="t", what="w", lasts=1.0)
RECORDS = st.fixed_dictionaries(
    {},
    optional={
        "begun": TEXTS, "ended": TEXTS, "at": NUMBERS, "owner": TEXTS, "app": TEXTS, "tool": TEXTS, "what": TEXTS,
        "lasts": NUMBERS, "outcome": st.sampled_from(["executed", "not_executed", "unknown", "x"]), "exit": NUMBERS,
        "error": st.none() | VALUES,
    },
)  # fmt: skip
WHOLE = st.fixed_dictionaries(
    {"begun": st.just("c"), "at": st.floats(), "owner": st.just("o"), "app": TEXTS, "tool": TEXTS, "what": TEXTS,
     "lasts": st.floats()}
) | st.fixed_dictionaries(
    {"ended": st.just("c"), "at": st.floats(), "owner": st.just("o"), "exit": NUMBERS, "error": st.none() | VALUES,
     "outcome": st.sampled_from(["executed", "not_executed", "unknown"])}
)  # fmt: skip


@runs
def test_a_damaged_journal_loses_what_is_damaged_and_nothing_else(examples, tmp_path):
    state = StateDir(tmp_path / ".tasak")
    state.create()

    @holds_for(examples, st.lists(documents(RECORDS | WHOLE) | st.binary(max_size=40), max_size=6))
    def _(lines: list[bytes]) -> None:
        state.outcomes.unlink(missing_ok=True)
        state.outcomes.write_bytes(b"".join(line.replace(b"\n", b" ") + b"\n" for line in lines))
        state.outcomes.chmod(0o600)
        journal = Journal(state, "us", now=lambda: 1000.0, is_alive=lambda owner: False)
        claim = Claim(call_id="of-ours", app="a", tool="t", what="w", lasts=1.0)

        journal.begin(claim, math.inf)
        journal.end(claim, Ending(outcome="executed", exit_status=0), math.inf)

        kept = journal.find("of-ours")
        assert kept is not None
        assert kept.ending is not None
        for record in remembered(state.outcomes.read_bytes(), 1000.0, lambda owner: False).values():
            assert record.at <= 1000.0
            assert math.isfinite(record.at + record.claim.lasts)
            with suppress(TasakError):
                journal.find(record.claim.call_id)


@runs
def test_a_damaged_note_of_a_failed_start_is_none_or_a_pause(examples, tmp_path):
    state = StateDir(tmp_path / ".tasak")
    state.create()
    notes = st.fixed_dictionaries({}, optional={"count": NUMBERS, "at": NUMBERS, "said": TEXTS})

    @holds_for(examples, documents(notes) | st.binary(max_size=40) | st.just(b"[" * 100_000))
    def _(content: bytes) -> None:
        state.start_failed.unlink(missing_ok=True)
        state.start_failed.write_bytes(content)

        with suppress(TasakError):
            start_failures.require_time(state, lambda: 1000.0)
        start_failures.note(state, "no luck", lambda: 1000.0)

        noted = start_failures.last(state)
        assert noted is not None
        assert noted.pause <= start_failures.LONGEST_PAUSE


@runs
def test_a_damaged_file_of_sign_ins_is_an_error_that_names_it(examples, tmp_path):
    store = TokenStore(tmp_path / ".tasak" / "auth")
    login = Login(url="https://a.test", client=None)
    store.create()
    store.put(AuthorizationServer(issuer="https://as.test"), login)
    (path,) = (tmp_path / ".tasak" / "auth").glob("*.json")
    good = json.loads(path.read_text())
    near = st.fixed_dictionaries(
        {}, optional={name: st.just(value) | VALUES for name, value in (good | good["logins"][0]).items()}
    )

    @holds_for(examples, documents(near) | st.binary(max_size=40) | st.just(b"[" * 100_000))
    def _(content: bytes) -> None:
        path.unlink()
        path.write_bytes(content)

        try:
            found = store.all("https://a.test", None)
        except BadConfig as problem:
            assert str(path) in problem.message  # noqa: PT017 - either is right
        else:
            assert all(each.login.url == "https://a.test" for each in found)


@runs
def test_a_damaged_pid_file_names_a_process_or_none(examples, tmp_path):
    state = StateDir(tmp_path)
    state.create()

    @holds_for(examples, st.binary(max_size=20) | st.integers().map(lambda pid: f"{pid}\n".encode()))
    def _(content: bytes) -> None:
        state.pid_file.write_bytes(content)

        pid = state.last_pid()

        assert pid is None or 0 < pid < 10**10
