"""Small things that are meant to become large, and things without end: each has a bound in time and in memory."""

import asyncio
import gzip
import json
import os
import socket
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest

from tasak.core.arguments import ArgumentReader
from tasak.core.bad_text import BadText
from tasak.core.config_file import BrokenFile, FileReader
from tasak.core.config_text import parse
from tasak.core.exchange import LONGEST_MESSAGE
from tasak.core.schema import weight
from tasak.core.signature import help_text, signature, signatures
from tasak.core.tool_service import MAX_PAGES, MAX_WEIGHT
from tasak.errors import BadArguments, NotExecuted, OutcomeUnknown, ServerError
from tasak.plugin import Progress
from tasak.request import Request
from tasak.testing import Answers, HttpServer
from tasak.transports.incoming import Bookmark
from tasak.transports.reading import MAX_LINE
from tests.core.pool import Pool, soon

# More than anything here takes on a busy machine; what is not bounded takes minutes.
SOON = 5.0

MEBIBYTE = 1 << 20


@contextmanager
def within(seconds: float = SOON) -> Iterator[None]:
    begin = time.perf_counter()
    yield
    assert time.perf_counter() - begin < seconds


@contextmanager
def work_of_less_than(seconds: float) -> Iterator[None]:
    """Of this thread's own: the machine may be busy."""
    begin = time.thread_time()
    yield
    assert time.thread_time() - begin < seconds


@contextmanager
def no_more_than(mebibytes: int) -> Iterator[None]:
    """Of memory, at once."""
    tracemalloc.start(1)
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < mebibytes * MEBIBYTE
    finally:
        tracemalloc.stop()


# ── answers ──────────────────────────────────────────────────────────────────────────────────────────────────────

# The tool `give` answers what stands in the file that it is told; the request's id is put in the place of ID.
GIVES = """
load, dump = json.loads, json.dumps
class Message(dict):
    def __missing__(self, key):
        return "answered"
class json:
    loads = lambda line: load(line, object_hook=Message)
    dumps = dump
def tools_call(message):
    text = open(message["params"]["arguments"]["file"]).read()
    sys.stdout.write(text.replace("ID", str(message["id"])) + "\\n")
    sys.stdout.flush()
"""
FIRST = '{"jsonrpc": "2.0", "id": ID, "result": {"content": [], "structuredContent": {"v": %s}}}'
LAST = '{"result": {"content": [], "structuredContent": {"v": %s}}, "jsonrpc": "2.0", "id": ID}'

UNREADABLE = {
    "NaN": "NaN",
    "Infinity": "[Infinity, -Infinity]",
    "1e999": "-1e999",
    "5,000 digits": "9" * 5000,
    "100,000 deep": '{"a":' * 100_000 + "1" + "}" * 100_000,
}


async def give(pool: Pool, app: Any, text: str) -> Any:
    file = pool.root / "given"
    file.write_text(text)
    answer = await pool.call(app, "give", file=str(file))
    assert answer.result is not None
    return answer.result["structuredContent"]["v"]


@pytest.mark.parametrize("form", [FIRST, LAST], ids=["its id first", "its id last"])
async def test_an_answer_that_cannot_be_read_is_an_error_at_once_and_no_matter_to_the_next_call(pool, form):
    app = pool.script(GIVES)
    for text in UNREADABLE.values():
        with within(), pytest.raises(ServerError, match="its answer cannot be read"):
            await give(pool, app, form % text)

    assert 1 == await give(pool, app, form % 1)
    assert 1 == pool.heard().count("start")


async def test_an_answer_of_5000_levels_is_told_or_an_error_and_no_matter_to_the_next_call(pool):
    """Which of them, that is Python's: later versions read more levels."""
    app = pool.script(GIVES)
    file = pool.root / "given"
    file.write_text(FIRST % ("[" * 5000 + "]" * 5000))
    asked = Request(
        app="scripted", tool="give", arguments={"file": str(file)}, cwd=pool.root, env=dict(os.environ), wants_json=True
    )

    with within():
        said = await outcome_of(pool, asked)

    assert "[[[[" in said or "too deep" in said
    assert 1 == await give(pool, app, FIRST % 1)


async def outcome_of(pool: Pool, asked: Request) -> str:
    try:
        return (await soon(pool.gateway.call(asked))).body.decode()
    except ServerError as problem:
        return problem.message


async def test_an_error_that_cannot_be_read_is_one_too(pool):
    app = pool.script(GIVES)

    with pytest.raises(ServerError, match="its answer cannot be read"):
        await give(pool, app, '{"jsonrpc": "2.0", "id": ID, "error": {"code": 1, "message": "x", "data": NaN}}')


@pytest.mark.parametrize("text", ["9007199254740993", "-0", "1" + "0" * 999, "0.1", "5e-324", "1.5e+308"])
async def test_a_number_comes_back_digit_for_digit(pool, text):
    pool.script("")
    asked = Request(
        app="scripted", tool="give", argv=(f"n:={text}",), cwd=pool.root, env=dict(os.environ), wants_json=True
    )

    reply = await soon(pool.gateway.call(asked))

    sent = json.loads(reply.body, parse_int=str, parse_float=str)["structuredContent"]["n"]
    assert text in (sent, f"-{sent}")


def lines(*texts: str) -> str:
    return "\n".join(texts)


GOOD = FIRST % '"good"'
PROGRESS = '{"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": %s, "progress": %s}}'
QUESTION = '{"jsonrpc": "2.0", "id": %s, "method": "sampling/createMessage", "params": {}}'
DIGITS = "9" * 5000
AMOUNTS = ("1" + "0" * 400, "1e999", '"x"', "null", "[]", '1, "total": 1' + "0" * 400, '1, "message": []')
BESIDE_THE_ANSWER = {
    "the answer twice": lines(GOOD, FIRST % '"bad"'),
    "other ids": lines(*(FIRST.replace("ID", each) % 1 for each in ("0", "-1", "1.5", "null", "true", '"x"', "[]"))),
    "an id of 5,000 digits": lines(*(FIRST.replace("ID", each) % 1 for each in (f'"{DIGITS}"', DIGITS))),
    "tokens of all kinds": lines(
        *(PROGRESS % (each, 1) for each in ("[]", "{}", "null", "1.5", f'"{DIGITS}"', '"ID"', "true"))
    ),
    "progress of all kinds": lines(*(PROGRESS % ("ID", each) for each in AMOUNTS)),
    "requests of all kinds": lines(*(QUESTION % each for each in ("1", '"1"', "1", "null", "1.5", "[]", "ID"))),
    "no messages": lines("[]", "null", "{}", "1", '"x"', "[" * 100_000, '{"jsonrpc": "2.0"}', "\0", "NaN", "ID"),
}


@pytest.mark.parametrize("beside", BESIDE_THE_ANSWER.values(), ids=BESIDE_THE_ANSWER)
async def test_what_comes_beside_an_answer_is_no_matter_to_it(pool, beside):
    app = pool.script(GIVES, call_timeout=SOON)
    text = beside if beside.startswith(GOOD) else lines(beside, GOOD)

    assert "good" == await give(pool, app, text)
    assert "good" == await give(pool, app, GOOD)
    assert 1 == pool.heard().count("start")


async def test_progress_beyond_any_number_is_none(pool):
    app = pool.script(GIVES)
    heard: list[Progress] = []
    file = pool.root / "given"
    file.write_text(lines(BESIDE_THE_ANSWER["progress of all kinds"], GOOD))

    asked = Request(
        app="scripted", tool="give", arguments={"file": str(file)}, cwd=pool.root, env=dict(os.environ), wants_json=True
    )
    await soon(pool.gateway.call(asked, heard.append))

    assert app.name == "scripted"
    assert [(1.0, None), (1.0, None)] == [(each.progress, each.total) for each in heard]


async def test_an_error_is_not_told_at_any_length(pool):
    app = pool.script("def tools_call(message): refuse(message, -32000, 'x' * 10_000_000)")

    with pytest.raises(ServerError) as raised:
        await pool.call(app, "give")

    assert len(raised.value.message) < LONGEST_MESSAGE + 100


# ── lists of tools ───────────────────────────────────────────────────────────────────────────────────────────────


async def listed(pool: Pool, script: str, **keys: Any) -> list[str]:
    app = pool.script(script, **keys)
    found = await soon(pool.service.list_tools(app))
    return [tool["name"] for tool in found.tools]


MANY = "def tools_list(message): answer(message, tools=[{'name': 't%%d' %% n} for n in range(%d)])"
ENDLESS = """
def tools_list(message):
    cursor = int((message.get("params") or {}).get("cursor", "0"))
    answer(message, tools=[{"name": f"t{cursor}", "description": "x" * %d}], nextCursor=str(cursor + 1))
"""
DEEP = """
def tools_list(message):
    sys.stdout.write('{"jsonrpc": "2.0", "id": %%d, "result": {"tools": [{"name": "t", "inputSchema": %%s}]}}\\n'
                     %% (message["id"], '{"items":' * %d + "{}" + "}" * %d))
    sys.stdout.flush()
"""
BUSY = """
import time
def tools_list(message):
    while True:
        send(method="notifications/progress", params={"progressToken": message["id"], "progress": 1})
        time.sleep(0.02)
"""


@pytest.mark.parametrize("tools", [150_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
async def test_a_list_of_a_million_tools_is_not_taken(pool, tools):
    with within(20), pytest.raises(NotExecuted, match="its list of tools is too large"):
        await listed(pool, MANY % tools)


@pytest.mark.slow
async def test_ten_thousand_tools_are_listed(pool):
    assert 10_000 == len(await listed(pool, MANY % 10_000))


async def test_pages_without_end_are_not_asked_for(pool):
    with within(20):
        found = await listed(pool, ENDLESS % 1)

    assert MAX_PAGES == len(found)


@pytest.mark.slow
async def test_large_pages_without_end_are_not_taken(pool):
    with within(20), pytest.raises(NotExecuted, match="its list of tools is too large"):
        await listed(pool, ENDLESS % MEBIBYTE)

    assert pool.heard().count("tools/list") < 100


@pytest.mark.parametrize("depth", [200, 5000])
async def test_a_list_that_is_nested_too_deep_is_not_taken_and_the_call_not_made(pool, depth):
    app = pool.script(DEEP % (depth, depth))

    with within(), pytest.raises(NotExecuted, match="too deep"):
        await pool.call(app, "t")


@pytest.mark.slow
async def test_a_list_that_is_always_about_to_come_is_given_up(pool):
    with within(), pytest.raises(NotExecuted, match="did not come to the end of its tools"):
        await listed(pool, BUSY, list_timeout=0.3, call_timeout=0.5, call_timeout_max=0.6)


# ── schemas ──────────────────────────────────────────────────────────────────────────────────────────────────────


def doubling(key: str, floors: int = 40, width: int = 2) -> dict[str, Any]:
    """A schema that is small until its references are followed."""
    floor = {f"d{n}": {key: [{"$ref": f"#/$defs/d{n + 1}"}] * width} for n in range(floors)}
    return {"$defs": floor, "$ref": "#/$defs/d0", "properties": {"x": {"$ref": "#/$defs/d0"}}}


def with_parameters(count: int) -> dict[str, Any]:
    return {f"p{n}": {"type": "string"} for n in range(count)}


def of_x(**keys: Any) -> dict[str, Any]:
    return {"properties": {"x": keys}}


MANY_NAMES = 100_000
CIRCLE = {"allOf": [{"$ref": "#"}, {"$ref": "#"}], "properties": {"x": {"$ref": "#"}}}
MUTUAL = {"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}] * 9}, "b": {"anyOf": [{"$ref": "#/$defs/a"}] * 9}},
          "properties": {f"p{n}": {"$ref": "#/$defs/a"} for n in range(100)}}  # fmt: skip
SCHEMAS: dict[str, Callable[[], dict[str, Any]]] = {
    "allOf that doubles": lambda: doubling("allOf"),
    "anyOf that doubles": lambda: doubling("anyOf"),
    "oneOf that doubles": lambda: doubling("oneOf"),
    "allOf a hundred wide": lambda: doubling("allOf", 5, 100),
    "a circle": lambda: CIRCLE,
    "two that mean each other": lambda: MUTUAL,
    "many parameters": lambda: {"properties": with_parameters(MANY_NAMES)},
    "many parameters, many times": lambda: {
        "$defs": {"a": {"properties": with_parameters(MANY_NAMES)}},
        "allOf": [{"$ref": "#/$defs/a"}] * 1000,
    },
    "many that are required": lambda: {"required": [f"p{n}" for n in range(MANY_NAMES)]},
    "many choices": lambda: of_x(enum=[f"c{n}" for n in range(MANY_NAMES)]),
    "many branches": lambda: of_x(anyOf=[{"const": n} for n in range(9000)]),
    "many arrays": lambda: of_x(anyOf=[{"items": {"enum": [n]}, "type": "array"} for n in range(3000)]),
    "many types": lambda: of_x(type=["string"] * MANY_NAMES),
    "many patterns": lambda: {"patternProperties": {f"^(a+)+{n}$": {} for n in range(MANY_NAMES)}},
    "a long name": lambda: {"properties": {"n" * MEBIBYTE: {"description": "d" * MEBIBYTE, "default": "v" * MEBIBYTE}}},
    "a long default, many times": lambda: with_references({"default": [1] * MANY_NAMES}),
    "a long text, many times": lambda: with_references({"description": "x y" * MEBIBYTE}),
    "a long choice, many times": lambda: with_references({"enum": [["x" * MEBIBYTE]]}),
    "a long reference": lambda: of_x(**{"$ref": "#" + "/a" * MEBIBYTE}),
    "an index of many digits": lambda: {"anyOf": [{"$ref": "#/anyOf/" + "9" * 900}]},
    "a pattern that takes for ever": lambda: of_x(type="string", pattern="^(a+)+$"),
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_reading_a_schema_takes_bounded_work_whatever_it_expands_to(name):
    tool = {"name": "t", "inputSchema": SCHEMAS[name]()}

    with work_of_less_than(2):
        line = signature(tool)
    with work_of_less_than(2):
        text = help_text("app", tool)
    with work_of_less_than(2):
        reader = ArgumentReader("app", tool)
    for words in (["--x", "a" * 40 + "!"], ["--nobody", "1"], ["--x"], ["x:=[1]"]):
        with work_of_less_than(2):
            said = refusal(reader, words)
        assert len(said) < 10_000

    assert len(line) <= 1000
    assert text.endswith("\n")


def with_references(to: dict[str, Any]) -> dict[str, Any]:
    return {"$defs": {"d": to}, "properties": {f"p{n}": {"$ref": "#/$defs/d"} for n in range(1000)}}


@pytest.mark.slow
def test_many_small_schemas_that_expand_are_listed_in_bounded_time():
    """As many as a server may list: each takes some 40 ms to read."""
    schema = doubling("anyOf", 8, 3)
    tools = [{"name": f"t{n}", "description": "Do it", "inputSchema": schema} for n in range(2400)]
    assert weight(tools, MAX_WEIGHT)

    with within(20):
        lines = list(signatures(tools))

    assert "t0(x?: any, …: any) - Do it" == lines[0]
    assert [f"t{n}(…) - Do it" for n in range(100, 2400)] == lines[100:]


@pytest.mark.slow
def test_ten_thousand_plain_schemas_are_listed_whole():
    tools = [{"name": f"t{n}", "inputSchema": {"properties": with_parameters(6)}} for n in range(10_000)]

    assert not any("…" in line for line in signatures(tools))


@pytest.mark.slow
async def test_a_list_of_many_schemas_that_expand_is_passed_on_as_it_came(pool):
    """The daemon expands none of them, and `--json` prints them so."""
    schema = doubling("anyOf", 8, 3)
    app = pool.script(
        f"def tools_list(message): answer(message, tools=[{{'name': 't%d' % n, 'inputSchema': {schema!r}}}"
        " for n in range(2400)])"
    )

    with within(20):
        found = await soon(pool.service.list_tools(app))

    assert 2400 == len(found.tools)
    assert schema == json.loads(json.dumps(list(found.tools)))[-1]["inputSchema"]


def refusal(reader: ArgumentReader, words: list[str]) -> str:
    try:
        reader.parse(words)
    except BadArguments as problem:
        return problem.message
    return ""


@pytest.mark.parametrize("key", ["inputSchema", "outputSchema"])
async def test_a_reference_fetches_nothing(pool, key):
    fifo = pool.root / "schema.json"
    os.mkfifo(fifo)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/schema.json"
        places = [url, f"{url}#/x", f"file://{fifo}", str(fifo), f"../{fifo.name}", "schema.json", f"//{url[7:]}"]
        schema = {
            "$schema": url,
            "$id": url,
            "$ref": url,
            "$dynamicRef": url,
            "properties": {f"p{n}": {"$ref": place, "type": "string"} for n, place in enumerate(places)},
            "additionalProperties": {"$ref": url},
        }
        app = pool.script(
            f"""
def tools_list(message):
    answer(message, tools=[{{"name": "give", "inputSchema": {{"additionalProperties": True}}, "{key}": {schema!r}}}])
"""
        )
        listing = await soon(pool.service.list_tools(app))
        answer = await pool.call(app, "give", p0="a", p2="b", other={"x": 1})

        assert "give" in signature(listing.tools[0])
        assert help_text("scripted", listing.tools[0])
        assert answer.result is not None
        with pytest.raises(BlockingIOError):  # nobody has come
            listener.accept()


# ── configs ──────────────────────────────────────────────────────────────────────────────────────────────────────

MANY_BYTES = 9_999_000


def repeated(text: str, size: int = MANY_BYTES) -> str:
    return text * (size // len(text))


def laughs() -> str:
    first = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    return first + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 40))


def merges() -> str:
    first = "a0: &a0 {k0: 1, l0: 1}\n"
    return first + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}], k{n}: 1}}\n" for n in range(1, 40))


BOMBS: dict[str, Callable[[], str]] = {
    "a billion laughs": laughs,
    "merges of merges": merges,
    "one list": lambda: "a: [" + repeated("1, ") + "]",
    "a block of items": lambda: repeated("- a\n"),
    "items in items": lambda: "- " * 100_000,
    "brackets": lambda: repeated("["),
    "braces": lambda: repeated("{a: "),
    "complex keys": lambda: repeated("? "),
    "keys": lambda: "".join(f"k{n}: 1\n" for n in range(700_000)),
    "anchors": lambda: "".join(f"- &a{n} x\n" for n in range(500_000)),
    "aliases": lambda: "- &a x\n" + repeated("- *a\n"),
    "tags": lambda: repeated("- !!str x\n"),
    "directives": lambda: repeated("%TAG !a! tag:b\n"),
    "comments": lambda: repeated("# nothing\n"),
    "empty lines": lambda: repeated("\n"),
    "blanks": lambda: "a:" + repeated(" ") + "1",
    "tabs": lambda: "a:" + repeated("\t") + "1",
    "one text": lambda: "a: " + repeated("x"),
    "one quoted text": lambda: 'a: "' + repeated("\\x41") + '"',
    "a folded text": lambda: "a: >\n" + repeated("  word\n"),
    "documents": lambda: repeated("---\n"),
    "quotes": lambda: repeated('"'),
    "colons": lambda: repeated("a: "),
    "a JSON list": lambda: '{"a": [' + repeated("1, ") + "1]}",
    "JSON keys": lambda: "{" + repeated('"a": 1, ') + '"b": 1}',
    "JSON brackets": lambda: '{"a": ' + repeated("["),
    "one number": lambda: "a: " + "9" * MANY_BYTES,
    "one binary number": lambda: "a: 0b" + "1" * MANY_BYTES,
    "a JSON number": lambda: '{"a": ' + "9" * MANY_BYTES + "}",
    "a JSON float": lambda: '{"a": 0.' + "9" * MANY_BYTES + "}",
}
# Those that are small, and so quick to refuse.
SMALL = ("a billion laughs", "items in items")

MEASURE = """
import resource, sys
from tasak.core.bad_text import BadText
from tasak.core.config_text import parse
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    parse(sys.stdin.read())
except BadText as problem:
    print(len(str(problem)))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base)
"""


@pytest.mark.parametrize("name", SMALL)
def test_what_aliases_make_large_is_refused_before_it_is_made(name):
    with work_of_less_than(2), no_more_than(50), pytest.raises(BadText):
        parse(BOMBS[name]())


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_ten_megabytes_of_anything_are_read_or_refused_soon_in_little_memory(name):
    with within(20):
        done = subprocess.run(
            [sys.executable, "-c", MEASURE], input=BOMBS[name](), capture_output=True, text=True, check=True, timeout=60
        )

    *lengths, kilobytes = map(int, done.stdout.split())
    assert kilobytes < 500 * 1024
    assert all(length < 1000 for length in lengths)


@pytest.mark.parametrize(
    "text",
    [
        "0b" + "1" * 20_000 + ": 1",
        "a: 0b" + "1" * 20_000,
        "0x" + "f" * 20_000 + ": 1",
        "a: 0x" + "f" * 20_000,
        "apps: {a: {idle_ttl: .inf}}",
        "apps: {a: {idle_ttl: .nan}}",
        "a: 1" + "0" * 400 + ".5",
        '{"a": 1e999}',
        '{"a": -1e999}',
    ],
    ids=lambda text: text[:12],
)
def test_a_number_beyond_all_use_is_refused(text):
    with pytest.raises(BadText) as raised:
        parse(text)

    assert len(str(raised.value)) < 1000 or text.startswith("0")


def test_a_file_of_many_megabytes_is_not_parsed(tmp_path):
    path = tmp_path / "tasak.yaml"
    path.write_bytes(b"#" * (64 * MEBIBYTE))

    with work_of_less_than(2), no_more_than(40):
        found = FileReader(parse).read(path, tmp_path, is_users_own=True)

    assert isinstance(found, BrokenFile)


# ── HTTP ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("asked", "seconds"), [(10**400, 30), (-(10**400), 0.01), (0, 0.01), (500, 0.5)])
def test_a_server_is_come_back_to_neither_at_once_nor_never(asked, seconds):
    bookmark = Bookmark()

    bookmark.note(httpx2.ServerSentEvent(retry=asked))

    assert seconds == bookmark.pause(0)


def squeezed(times: int) -> bytes:
    """More blanks than the largest message may have."""
    content = b"{" + b" " * (MAX_LINE + MEBIBYTE)
    for _ in range(times):
        content = gzip.compress(content)
    return content


@pytest.mark.slow
@pytest.mark.parametrize(
    "coding", ["gzip", "gzip, gzip", "gzip, gzip, gzip", "gzip, gzip, gzip, gzip, gzip, gzip, gzip"]
)
async def test_a_compressed_answer_is_not_unpacked_without_end(pool, coding):
    content = await asyncio.to_thread(squeezed, coding.count("gzip"))
    async with HttpServer() as server:
        app = pool.reach(server.url)
        await pool.call(app, "echo", text="hello")
        server.spoil("tools/call", Answers(200, content, "application/json", {"Content-Encoding": coding}))

        with within(30), no_more_than(400), pytest.raises(OutcomeUnknown):
            await pool.call(app, "echo", text="hello")

        assert "hello" == await pool.text(app, "echo", text="hello")
