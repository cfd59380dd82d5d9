import json
import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasak.inert import inert, inert_json, one_line

ACTIVE = [
    *(chr(code) for code in [*range(0x20), *range(0x7F, 0xA0)] if chr(code) not in "\n\t"),
    *"\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",
    *"\u2028\u2029\ufeff\ufff9\ufffa\ufffb",
    *(chr(code) for code in range(0xE0000, 0xE0080)),
    *("\ud800", "\udbff", "\udc80", "\udfff"),
]

# Half of a pair next to its other half is a whole one for JSON: no document can keep them apart.
texts = st.text(st.one_of(st.characters(codec="utf-8"), st.sampled_from([c for c in ACTIVE if c < "\ud800"])))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", r"\x1b[2J"),
        ("\x9b2J", r"\x9b2J"),
        ("a\rb\x07\x7f", r"a\x0db\x07\x7f"),
        ("\u202egpj.exe", r"\u202egpj.exe"),
        ("\U000e0041", r"\U000e0041"),
        ("\udcff", r"\udcff"),
    ],
)
def test_an_active_character_is_shown_as_its_escape(text, shown):
    assert shown == inert(text)


@pytest.mark.parametrize("text", ["two\nlines\tand a tab", "zażółć gęślą jaźń", "漢字 かな 한국어", "👩‍💻 ❤️ 🇵🇱 שלום"])
def test_what_people_write_stays_as_it_is(text):
    assert text == inert(text)


@given(st.text(st.characters() | st.sampled_from(ACTIVE)))
def test_inert_text_has_no_active_character(text):
    shown = inert(text)

    assert [] == [character for character in shown if character in ACTIVE]
    assert all(unicodedata.category(character) != "Cs" for character in shown)


@given(st.text(st.characters() | st.sampled_from(ACTIVE)))
def test_inert_text_stays_what_it_is(text):
    once = inert(text)

    assert once == inert(once)


def test_one_line_shows_where_the_lines_ended():
    assert r"one\ntwo\tthree" == one_line("one\ntwo\tthree")


@pytest.mark.parametrize(
    ("text", "line"), [("abcd", "abcd"), ("abcde", "abc…"), ("ab\x1b", "ab\\…"), ("\n\n", r"\n\n"), ("\n\n\n", r"\n\…")]
)
def test_one_line_is_cut_at_its_limit(text, line):
    assert line == one_line(text, 4)


def test_one_line_reads_no_more_than_it_shows():
    text = "\x1b" * (32 << 20)
    begin = time.perf_counter()

    line = one_line(text)

    assert 200 == len(line)
    assert time.perf_counter() - begin < 0.5


@settings(max_examples=50)
@given(values, st.booleans(), st.sampled_from([None, 1]))
def test_inert_json_is_the_same_value(value, is_ascii, indent):
    document = json.dumps(value, ensure_ascii=is_ascii, indent=indent)

    shown = inert_json(document)

    assert value == json.loads(shown)
    assert [] == [character for character in shown if character in ACTIVE]


@pytest.mark.parametrize("code", [0x7F, 0x9B, 0x202E, 0xE0041, 0xDC80])
def test_an_active_character_in_json_is_jsons_own_escape(code):
    shown = inert_json(f'"{chr(code)}"')

    assert shown.isascii()
    assert chr(code) == json.loads(shown)


def test_line_ends_between_the_tokens_of_json_survive():
    assert "[\n  1, \n2]" == inert_json("[\n  1,\r\n2]")
