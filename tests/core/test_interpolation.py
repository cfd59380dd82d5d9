import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasak.core.interpolation import fill, fill_all
from tasak.core.sources import Sources
from tasak.errors import BadConfig, TasakError

SOURCES = Sources(env={"TOKEN": "s3cret", "EMPTY": "", "NESTED": "${TOKEN} $$ {}", "HALF": "\udc80"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("${TOKEN}", "s3cret"),
        ("a${TOKEN}b${TOKEN}", "as3cretbs3cret"),
        ("${EMPTY}", ""),
        ("${EMPTY:-x}", "x"),
        ("${MISSING:-x y}", "x y"),
        ("${MISSING:-}", ""),
        ("${TOKEN:-x}", "s3cret"),
        ("${MISSING:-$$5}", "$5"),
        ("$$", "$"),
        ("$${TOKEN}", "${TOKEN}"),
        ("$$${TOKEN}", "$s3cret"),
        ("$TOKEN costs 5$", "$TOKEN costs 5$"),
        ("{TOKEN}", "{TOKEN}"),
    ],
)
def test_each_form_means_what_the_documentation_says(text, expected):
    assert expected == fill(text, SOURCES, "app 'x'")


def test_a_value_is_not_looked_into_again():
    assert "${TOKEN} $$ {}" == fill("${NESTED}", SOURCES, "app 'x'")


def test_an_unset_variable_is_named_with_its_app():
    with pytest.raises(BadConfig, match="app 'x': the environment variable MISSING is not set"):
        fill("${MISSING}", SOURCES, "app 'x'")


@pytest.mark.parametrize("text", ["${", "${}", "${1X}", "${A B}", "${env:TOKEN}", "${TOKEN", "${A-x}", "${A:-${B}}"])
def test_what_is_no_form_is_refused(text):
    with pytest.raises(BadConfig, match="no variable"):
        fill(text, SOURCES, "app 'x'")


def test_a_variable_that_is_no_text_is_refused_by_name_alone():
    with pytest.raises(BadConfig, match="HALF is not UTF-8"):
        fill("${HALF}", SOURCES, "app 'x'")


def test_everything_in_a_value_is_filled_in_but_its_keys():
    value = {"${TOKEN}": ["${TOKEN}", {"deep": "$$"}], "n": 3, "yes": True, "none": None}

    filled = fill_all(value, SOURCES, "app 'x'")

    assert {"${TOKEN}": ["s3cret", {"deep": "$"}], "n": 3, "yes": True, "none": None} == filled


@given(st.text(alphabet="${}:-_AB1 \n"), st.dictionaries(st.sampled_from(["A", "B", "AB"]), st.text()))
def test_whatever_the_text_it_is_filled_in_or_refused(text, env):
    try:
        filled = fill(text, Sources(env=env), "app 'x'")
    except TasakError:
        return

    assert "$" in text or filled == text
