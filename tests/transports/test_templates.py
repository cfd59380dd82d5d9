"""Templates: how a text is read, and what becomes of it when it is filled in."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasak.transports.templates import NOTHING, NotATemplate, Reference, as_text, fill, inside, read, references

VALUES = {
    "text": "abc",
    "empty": "",
    "strange": "zażółć \U0001f600 \0 $$ ${args.text} ${steps.0.text}\nlast",
    "integer": 2**53 + 1,
    "number": 1.0,
    "yes": True,
    "null": None,
    "list": [1, "two", [3]],
    "mapping": {"key": {"0": "zero"}, "ż": "ó"},
}


def filled(value: Any) -> Any:
    """`value` with `${args.…}` taken from `VALUES`."""
    return fill(read(value), lambda reference: inside({"args": VALUES}, reference.path))


@pytest.mark.parametrize("name", VALUES)
def test_a_text_that_is_one_template_becomes_the_value_itself(name):
    expected = VALUES[name]

    found = filled(f"${{args.{name}}}")

    assert (expected, type(expected)) == (found, type(found))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a ${args.text} b", "a abc b"),
        ("${args.text}${args.text}", "abcabc"),
        (" ${args.integer}", " 9007199254740993"),
        ("n=${args.number}", "n=1.0"),
        ("${args.yes}!", "true!"),
        ("${args.null}!", "null!"),
        ("l ${args.list}", 'l [1, "two", [3]]'),
        ("m ${args.mapping}", 'm {"key": {"0": "zero"}, "ż": "ó"}'),
        ("<${args.empty}>", "<>"),
        ("<${args.missing}>", "<>"),
    ],
)
def test_in_a_longer_text_a_value_is_put_in_as_text(text, expected):
    assert expected == filled(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${args.list.1}", "two"),
        ("${args.list.2.0}", 3),
        ("${args.mapping.key.0}", "zero"),
        ("${args.mapping.ż}", "ó"),
        ("${args.list.3}!", "!"),
        ("${args.list.-1}!", "!"),
        ("${args.list.one}!", "!"),
        (f"${{args.list.{'9' * 5000}}}!", "!"),
        ("${args.text.0}!", "!"),
        ("${args.null.key}!", "!"),
        ("${args.mapping.key.1}!", "!"),
    ],
)
def test_a_path_leads_through_mappings_by_name_and_through_lists_by_index(text, expected):
    assert expected == filled(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("plain", "plain"),
        ("$$", "$"),
        ("$$$$", "$$"),
        ("$${args.text}", "${args.text}"),
        ("$$${args.text}", "$abc"),
        ("${args.text}$$", "abc$"),
        ("$HOME costs 5$", "$HOME costs 5$"),
        ("#/$defs/x and ^a$", "#/$defs/x and ^a$"),
        ("{args.text}", "{args.text}"),
    ],
)
def test_two_dollars_are_one_and_one_before_anything_else_stays(text, expected):
    assert expected == filled(text)


def test_what_a_value_holds_is_not_looked_into_again():
    assert VALUES["strange"] == filled("${args.strange}")
    assert f"<{VALUES['strange']}>" == filled("<${args.strange}>")


def test_everything_in_a_value_is_filled_in_but_its_keys():
    value = {"${args.text}": ["${args.text}", {"deep": "$$ ${args.yes}"}], "n": 3, "yes": True, "none": None}

    assert {"${args.text}": ["abc", {"deep": "$ true"}], "n": 3, "yes": True, "none": None} == filled(value)


def test_what_is_one_template_and_nothing_to_fill_it_is_left_out():
    value = {"a": "${args.missing}", "b": "${args.null}", "c": {"d": "${args.missing}"}, "e": ["${args.missing}", 1]}

    assert {"b": None, "c": {}, "e": [1]} == filled(value)


@pytest.mark.parametrize("text", ["${", "${}", "${args.text", "${args.}", "${.text}", "${args..x}", "a ${args.x b"])
def test_what_is_no_template_is_refused_when_it_is_read(text):
    with pytest.raises(NotATemplate, match="is no template"):
        read([text])


def test_every_reference_is_found_and_shown_as_it_was_written():
    value = {"a": ["${args.x} and ${steps.0.text}"], "b": {"c": "${steps.1.structured.y.0}"}, "d": 1}

    assert ["${args.x}", "${steps.0.text}", "${steps.1.structured.y.0}"] == [
        str(each) for each in references(read(value))
    ]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda values: st.lists(values) | st.dictionaries(st.text(), values),
)


@given(JSON)
@pytest.mark.slow
def test_whatever_the_value_it_stays_what_it_is(value):
    assert value == fill(read("${args.x}"), lambda _: value)
    assert f"<{as_text(value)}>" == fill(read("<${args.x}>"), lambda _: value)


@given(JSON)
@pytest.mark.slow
def test_a_value_that_is_put_in_as_json_can_be_read_back(value):
    text = fill(read("${args.x} "), lambda _: value)

    assert value == (text[:-1] if isinstance(value, str) else json.loads(text))


@given(st.text(alphabet="${}.as0 \n"))
def test_whatever_the_text_it_is_read_or_refused(text):
    try:
        ready = read(text)
    except NotATemplate:
        return

    assert "$" in text or ready == text
    assert isinstance(fill(ready, lambda _: "x"), str)


@given(JSON.filter(lambda value: "$" not in json.dumps(value, ensure_ascii=False)))
@pytest.mark.slow
def test_a_value_without_a_dollar_is_read_as_it_is(value):
    assert value == read(value)
    assert [] == list(references(read(value)))


def test_a_reference_to_nothing_by_itself_is_nothing():
    assert NOTHING is fill(read("${args.x}"), lambda _: NOTHING)
    assert Reference(("args", "x")) == next(references(read("${args.x}")))
