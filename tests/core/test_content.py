import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasak.core.content import as_bytes, as_json, as_text

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
block_keys = st.sampled_from(["type", "text", "data", "mimeType", "resource", "uri", "blob"])
block_types = st.sampled_from(["text", "image", "audio", "resource", "resource_link", "hologram"])
blocks = st.dictionaries(block_keys, block_types | values) | values


def text(value):
    return {"type": "text", "text": value}


def test_text_is_printed_as_it_is_with_a_newline_at_its_end():
    assert "  żółw\t\n\n" == as_text({"content": [text("  żółw\t\n")]})


def test_a_newline_stands_between_blocks():
    assert "one\n\ntwo\n" == as_text({"content": [text("one"), text(""), text("two")]})


@pytest.mark.parametrize(
    ("block", "line"),
    [
        ({"type": "image", "data": "AAAA", "mimeType": "image/png"}, "[image/png, 3 bytes; --json has the data]"),
        ({"type": "image", "data": "AAA=", "mimeType": "image/png"}, "[image/png, 2 bytes; --json has the data]"),
        ({"type": "audio", "data": "AA==\n", "mimeType": "audio/wav"}, "[audio/wav, 1 bytes; --json has the data]"),
        ({"type": "audio", "data": ""}, "[audio, 0 bytes; --json has the data]"),
        ({"type": "image", "data": "", "mimeType": "\x1b[2J"}, r"[\x1b[2J, 0 bytes; --json has the data]"),
        (
            {"type": "resource", "resource": {"uri": "f:/x", "blob": "AAAA", "mimeType": "application/pdf"}},
            "[application/pdf, 3 bytes; --json has the data]",
        ),
        ({"type": "resource", "resource": {"uri": "f:/x", "text": "inside"}}, "inside"),
        ({"type": "resource_link", "uri": "file:///tmp/a", "name": "a"}, "file:///tmp/a"),
        ({"type": "hologram", "x": "ó\n"}, r'{"type":"hologram","x":"ó\n"}'),
        ({"type": "text", "text": 7}, '{"type":"text","text":7}'),
        ("not a block", '"not a block"'),
    ],
)
def test_each_kind_of_block_has_its_form(block, line):
    assert f"{line}\n" == as_text({"content": [block]})


@pytest.mark.parametrize(
    ("result", "printed"),
    [
        ({"content": [], "structuredContent": {"a": [1]}}, '{\n  "a": [\n    1\n  ]\n}\n'),
        ({"structuredContent": {"ż": None}}, '{\n  "ż": null\n}\n'),
        ({"content": [text("seen")], "structuredContent": {"a": 1}}, "seen\n"),
        ({"content": []}, ""),
        ({"content": "odd"}, ""),
        ({}, ""),
    ],
)
def test_structured_content_is_printed_where_there_is_no_other(result, printed):
    assert printed == as_text(result)


@settings(max_examples=30)
@given(st.dictionaries(st.sampled_from(["content", "structuredContent", "isError"]), st.lists(blocks) | values))
def test_no_result_of_a_server_makes_it_raise(result):
    printed = as_text(result)

    as_bytes(printed).decode()


def test_a_result_without_end_does_not_make_it_raise():
    deep = []
    deep.append(deep)

    assert "[it cannot be shown as JSON]\n" == as_text({"content": [deep]})


def test_bytes_are_utf8_whatever_the_text():
    assert "a\ufffdż".encode() == as_bytes("a\udc80ż")


@settings(max_examples=30)
@given(st.recursive(st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(), st.lists))
def test_json_is_one_document_of_the_same_value(value):
    document = as_json(value)

    assert document.endswith("\n")
    assert value == json.loads(document)


def test_json_keeps_half_of_a_surrogate_pair_as_an_escape():
    assert '["\\u017c", "\\udc80"]\n' == as_json(["ż", "\udc80"])


def test_json_is_readable_where_it_can_be():
    assert '["ż"]\n' == as_json(["ż"])


@pytest.mark.parametrize("value", [float("nan"), [float("inf")]])
def test_what_json_cannot_say_is_a_value_error(value):
    with pytest.raises(ValueError):
        as_json(value)


def test_json_of_something_without_end_is_a_value_error():
    deep = []
    deep.append(deep)

    with pytest.raises(ValueError):
        as_json(deep)


def test_much_text_takes_linear_time():
    begin = time.perf_counter()

    printed = as_bytes(as_text({"content": [text("x" * (64 << 20))]}))

    assert (64 << 20) + 1 == len(printed)
    assert time.perf_counter() - begin < 2
