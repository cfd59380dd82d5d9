import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tasak.core.arguments import ArgumentReader, Parsed
from tasak.errors import BadArguments, NeedsInput, TasakError

PROPERTIES = {
    "text": {"type": "string"},
    "count": {"type": "integer"},
    "ratio": {"type": "number"},
    "dry": {"type": "boolean"},
    "max_results": {"type": "integer"},
    "tags": {"type": "array", "items": {"type": "string"}},
    "ids": {"type": "array", "items": {"type": "integer"}},
    "rows": {"type": "array", "items": {"type": "array"}},
    "things": {"type": "array", "items": {"type": "object"}},
    "filter": {"type": "object"},
    "mode": {"enum": ["fast", "slow"]},
    "level": {"enum": [1, 2.5, "auto", None]},
    "maybe": {"type": ["integer", "null"]},
    "name": {"type": ["string", "null", "boolean", "integer"]},
    "tri": {"type": ["boolean", "null"]},
    "labels": {"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}]},
    "one_or_more": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
    "number_or_more": {"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "integer"}}]},
    "free": {},
    "args": {"type": "string"},
    "help": {"type": "boolean"},
    "no-color": {"type": "string"},
    "color": {"type": "boolean"},
}


def tool(properties, required=(), **more):
    return {"name": "t", "inputSchema": {"type": "object", "properties": properties, "required": required, **more}}


TOOL = tool(PROPERTIES)


def given_to(described, *argv):
    return ArgumentReader("app", described).parse(argv).arguments


def refusal(*argv, described=TOOL):
    with pytest.raises(BadArguments) as raised:
        ArgumentReader("app", described).parse(argv)
    return raised.value


def nested(depth):
    return "[" * depth + "]" * depth


@pytest.mark.parametrize(
    ("argv", "arguments"),
    [
        ([], {}),
        (["--text", "a"], {"text": "a"}),
        (["--text=a=b"], {"text": "a=b"}),
        (["--text="], {"text": ""}),
        (["text=a=b"], {"text": "a=b"}),
        (["text=a", "--count", "2"], {"text": "a", "count": 2}),
        (["--text", "--count"], {"text": "--count"}),
        (["--text", "--help"], {"text": "--help"}),
        (["--text", "--args"], {"text": "--args"}),
        (["--text", "@file", "--tags", "-"], {"text": "@file", "tags": ["-"]}),
        (["--max_results", "1"], {"max_results": 1}),
        (["--max-results=1"], {"max_results": 1}),
        (["max-results=1"], {"max_results": 1}),
        (["args=a", "help=true"], {"args": "a", "help": True}),
        (['args:="a"', "help:=false"], {"args": "a", "help": False}),
        (["--no-color", "blue"], {"no-color": "blue"}),
        (["--color"], {"color": True}),
        (["--no-dry"], {"dry": False}),
        (["--dry", "false", "--text", "a"], {"dry": False, "text": "a"}),
        (["--dry", "true"], {"dry": True}),
        (["--dry=false"], {"dry": False}),
        (["--tri=null"], {"tri": None}),
    ],
)
def test_an_argument_is_written_as_its_reader_likes(argv, arguments):
    assert arguments == given_to(TOOL, *argv)


@pytest.mark.parametrize(
    ("argv", "arguments"),
    [
        (["--text", "007"], {"text": "007"}),
        (["--text", "null"], {"text": "null"}),
        (["--text", '["a"]'], {"text": '["a"]'}),
        (["--count", "9007199254740993"], {"count": 2**53 + 1}),
        (["--count", "-5"], {"count": -5}),
        (["--count", "9" * 1000], {"count": int("9" * 1000)}),
        (["--ratio", "1"], {"ratio": 1}),
        (["--ratio", "1e3"], {"ratio": 1000.0}),
        (["--ratio", "-0.5"], {"ratio": -0.5}),
        (["--maybe", "null"], {"maybe": None}),
        (["--maybe", "3"], {"maybe": 3}),
        (["--name", "null"], {"name": "null"}),
        (["--name", "true"], {"name": "true"}),
        (["--name", "1"], {"name": "1"}),
        (["name:=null"], {"name": None}),
        (["--filter", '{"a": [1]}'], {"filter": {"a": [1]}}),
        (["--free", "1"], {"free": "1"}),
        (["free:=1"], {"free": 1}),
        (["--mode", "fast"], {"mode": "fast"}),
        (["--level", "auto"], {"level": "auto"}),
        (["--level", "1"], {"level": 1}),
        (["--level", "2.5"], {"level": 2.5}),
        (["level:=null"], {"level": None}),
        (["count:=5"], {"count": 5}),
    ],
)
def test_the_schema_alone_decides_the_type(argv, arguments):
    found = given_to(TOOL, *argv)

    assert arguments == found
    assert [type(value) for value in arguments.values()] == [type(value) for value in found.values()]


@pytest.mark.parametrize(
    ("argv", "arguments"),
    [
        (["--tags", "a"], {"tags": ["a"]}),
        (["--tags", "a", "tags=b"], {"tags": ["a", "b"]}),
        (["--tags", '["a", "b"]', "--tags", "c"], {"tags": ["a", "b", "c"]}),
        (["--tags", "[draft"], {"tags": ["[draft"]}),
        (["--tags", "a,b"], {"tags": ["a,b"]}),
        (["--tags", "null"], {"tags": ["null"]}),
        (["--tags", '{"a": 1}'], {"tags": ['{"a": 1}']}),
        (["--tags", "[NaN]"], {"tags": ["[NaN]"]}),
        (["--tags", "[]"], {"tags": []}),
        (['tags:=["a"]', "--tags", "b"], {"tags": ["a", "b"]}),
        (["--labels", "null"], {"labels": ["null"]}),
        (["labels:=null"], {"labels": None}),
        (["--ids", "1", "--ids", "[2, 3]"], {"ids": [1, 2, 3]}),
        (["--rows", "[1, 2]"], {"rows": [[1, 2]]}),
        (["--rows", "[1]", "--rows", "[2]"], {"rows": [[1], [2]]}),
        (["--rows", "[[1], [2]]", "--rows", "[3]"], {"rows": [[1], [2], [3]]}),
        (["--things", '{"a": 1}', "--things", '[{"b": 2}]'], {"things": [{"a": 1}, {"b": 2}]}),
        (["--one_or_more", "a"], {"one_or_more": "a"}),
        (["--one_or_more", "a", "--one_or_more", "b"], {"one_or_more": ["a", "b"]}),
        (["--number-or-more", "1"], {"number_or_more": 1}),
        (["--number-or-more", "[1]", "--number-or-more", "2"], {"number_or_more": [1, 2]}),
    ],
)
def test_an_array_is_json_or_a_flag_that_is_repeated(argv, arguments):
    assert arguments == given_to(TOOL, *argv)


@pytest.mark.parametrize(
    ("argv", "arguments"),
    [
        (["--args", '{"count": 1}'], {"count": 1}),
        (['--args={"count": 1}', "--text", "a"], {"count": 1, "text": "a"}),
        (["--args", '{"args": "a", "help": true}'], {"args": "a", "help": True}),
        (["--args", '{"ratio": 2, "count": 1.0}'], {"ratio": 2, "count": 1.0}),
    ],
)
def test_one_json_object_gives_many_arguments(argv, arguments):
    assert arguments == given_to(TOOL, *argv)


@pytest.mark.parametrize(
    ("argv", "source"),
    [
        (["--args", "@a b.json"], "the file a b.json"),
        (["--args=@/x\x1b"], r"the file /x\x1b"),
        (["--text", "a", "--args", "-"], "stdin"),
        (["--args=-"], "stdin"),
        (["--args", "@f\udcff"], r"the file f\udcff"),
    ],
)
def test_what_only_the_caller_can_read_is_named(argv, source):
    with pytest.raises(NeedsInput) as raised:
        ArgumentReader("app", TOOL).parse(argv)

    assert f"app t: --args is to be read from {source}, which only the caller can" == raised.value.message


def test_a_mistake_is_told_before_anyone_is_asked_for_input():
    assert "unknown flag --cuont" in refusal("--args", "-", "--cuont", "1").message


@pytest.mark.parametrize(
    "argv", [["--help"], ["-h"], ["--count", "1", "-h"], ["--bogus", "--help"], ["--count=x", "stray", "--help"]]
)
def test_help_is_asked_for_anywhere(argv):
    assert Parsed(arguments={}, wants_help=True) == ArgumentReader("app", tool(PROPERTIES, ["text"])).parse(argv)


@pytest.mark.parametrize(
    "text", ["1e3", "1_000", " 1", "1 ", "+1", "01", "1.0", "", "x", "٣", "NaN", "true", "9" * 1001]
)
def test_what_is_not_quite_an_integer_is_none(text):
    assert "--count: expected integer, got " in refusal(f"--count={text}").message


@pytest.mark.parametrize(
    "text", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", ".5", "5.", "0x1", "1_0", "1e", ""]
)
def test_what_json_does_not_call_a_number_is_none(text):
    assert "--ratio: expected number, got " in refusal(f"--ratio={text}").message


@pytest.mark.parametrize("word", ["--json", "--timeout=3", "--session", "--call-id", "--no-daemon", "--debug"])
def test_an_option_of_ours_behind_the_app_is_told_where_it_belongs(word):
    option = word.partition("=")[0]

    failure = refusal(word, described=tool({"a": {"type": "string"}}))

    assert f"app t: unknown flag {option}" == failure.message
    assert f"{option} stands before the app, as in `tasak {option} … app`; usage: t(a?: string)" == failure.fix


def test_a_parameter_that_is_named_like_an_option_of_ours_is_the_tools():
    assert {"json": True} == given_to(tool({"json": {"type": "boolean"}}), "--json")


def test_a_value_without_a_name_is_told_that_it_wants_one():
    fix = refusal("1", described=tool({"a": {"type": "integer"}})).fix

    assert "each value has its name before it, as in --a VALUE; usage: t(a?: integer)" == fix
    assert "usage: t()" == refusal("1", described=tool({})).fix
    assert "usage: t(a?: integer)" == refusal("--args", '{"zzz": 1}', described=tool({"a": {"type": "integer"}})).fix


def test_a_word_behind_a_switch_is_told_what_that_takes():
    described = tool({"dry": {"type": "boolean"}, "a": {"type": "string"}})

    assert refusal("--dry", "yes", described=described).fix.startswith(
        "--dry takes true or false, and alone it is true; "
    )
    assert refusal("--dry", "--a", "x", "yes", described=described).fix.startswith("each value has its name before it")


def test_a_null_that_only_json_can_say_is_told_how():
    described = tool({"mode": {"enum": ["fast", None]}})

    assert refusal("--level", "null").fix.startswith("null itself is level:=null; usage: ")
    assert refusal("--mode", "null", described=described).fix.startswith("null itself is mode:=null; usage: ")
    assert refusal("--count", "null").fix.startswith("usage: ")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--bogus"], "unknown flag --bogus"),
        (["--no-text"], "unknown flag --no-text"),
        (["--no-dry=true"], "--no-dry takes no value"),
        (["--help=x"], "unknown flag --help"),
        (["bogus=1"], 'unknown argument "bogus"'),
        (["stray"], 'unexpected word "stray"'),
        (["-x=1"], 'unexpected word "-x=1"'),
        (["--"], "unknown flag --"),
        (["=1"], 'unexpected word "=1"'),
        (["--dry", "yes"], 'unexpected word "yes"'),
        (["--text"], "--text needs a value: string"),
        (["--max-results"], "--max-results needs a value: integer"),
        (["--args"], "--args needs a value: JSON, @file or -"),
        (["--dry=yes"], '--dry: expected boolean, got "yes"'),
        (["--dry=True"], '--dry: expected boolean, got "True"'),
        (["--count", "null"], '--count: expected integer, got "null"'),
        (["--maybe", "x"], '--maybe: expected integer|null, got "x"'),
        (["--mode", "Fast"], '--mode: expected "fast"|"slow", got "Fast"'),
        (["--level", "3"], '--level: expected 1|2.5|"auto"|null, got 3'),
        (["--level", "null"], '--level: expected 1|2.5|"auto"|null, got "null"'),
        (["--ids", "x"], '--ids: expected integer[], got "x"'),
        (["--count", "1", "--count", "1"], "--count is given twice, and it is one integer"),
        (["--dry", "--no-dry"], "--dry is given twice, and it is one boolean"),
        (["--max-results=1", "max_results=1"], "--max_results is given twice, and it is one integer"),
        (["--free=1", "--free=1"], "--free is given twice, and it is one any"),
        (["args=a", "args=a"], "args=… is given twice, and it is one string"),
        (["--args", "{}", "--args", "{}"], "--args is given twice"),
        (["--args", '{"count": 1}', "--count", "1"], "--count is given twice: by itself and in --args"),
        (["--args", '{"tags": ["a"]}', "--tags", "b"], "--tags is given twice: by itself and in --args"),
        (["--args", "[]"], '--args: expected a JSON object, @file or -, got "[]"'),
        (["--args", '{"max-results": 1}'], 'unknown argument "max-results"'),
        (["--args", '{"count": "1"}'], '--count: expected integer, got "1"'),
        (["--args", '{"count": true}'], "--count: expected integer, got true"),
        (["count:=true"], "--count: expected integer, got true"),
        (["tags:=1"], "--tags: expected string[], got 1"),
        (['count:="1"'], '--count: expected integer, got "1"'),
        (["--text", "\udcff"], r'--text: expected UTF-8, got "\udcff"'),
    ],
)
def test_a_mistake_names_the_tool_and_the_argument(argv, message):
    assert f"app t: {message}" == refusal(*argv).message


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (["count:=x"], '--count: expected JSON, got "x" (expecting value at character 1)'),
        (["count:="], '--count: expected JSON, got "" (expecting value at character 1)'),
        (["--filter", '{"a": 1, "a": 2}'], 'the key "a" stands twice'),
        (["--filter", '{"a": {"b": 1, "b": 1}}'], 'the key "b" stands twice'),
        (["--filter", '{"a": NaN}'], "NaN is not JSON"),
        (["--filter", '{"a": 1e999}'], "a number is beyond floating point"),
        (["--filter", '{"a": "\\ud800"}'], "it holds half of a surrogate pair"),
        (["--filter", '{"\\ud800": 1}'], "it holds half of a surrogate pair"),
        (["--filter", "{"], "expected object"),
        (["--filter", '{"a": %s}' % ("9" * 1001)], "a number has more than 1000 digits"),
        (["--args", '{"count": 1, "count": 1}'], 'the key "count" stands twice'),
        (["--args", "{"], "expecting property name"),
        (["--args", '{"free": Infinity}'], "Infinity is not JSON"),
        (["--args", "{} {}"], "extra data"),
        ([f"free:={nested(65)}"], "nested more than 64 deep"),
        ([f"free:={nested(100_000)}"], "nested more than 64 deep"),
        (["--args", f'{{"free": {nested(64)}}}'], "nested more than 64 deep"),
        (["--tags", nested(100_000)], "nested more than 64 deep"),
    ],
)
def test_ambiguous_json_is_an_error_that_says_why(argv, reason):
    assert reason in refusal(*argv).message


def test_json_of_64_levels_is_taken():
    assert {"free": json.loads(nested(64))} == given_to(TOOL, f"free:={nested(64)}")


def test_what_is_missing_is_named_with_its_type():
    described = tool({"a": {"type": "integer"}, "b": {"enum": ["x"]}, "args": {}}, ["a", "b", "args", "c"])

    message = refusal("--a", "1", described=described).message

    assert 'app t: missing --b ("x"), args=… (any), --c (any)' == message


@pytest.mark.parametrize(
    ("argv", "meant"),
    [
        (["--cuont", "1"], "--cnt"),
        (["cuont=1"], "--cnt"),
        (["cnt"], "--cnt"),
        (["-cnt", "1"], "--cnt"),
        (["--hepl", "x"], "help=…"),
        (["--help=x"], "help=…"),
        (["--mode", "Fats"], '"fast"'),
        (["--args", '{"cunt": 1}'], "--cnt"),
    ],
)
def test_the_fix_has_the_nearest_name_and_the_signature(argv, meant):
    properties = {"cnt": {"type": "integer"}, "help": {"type": "string"}, "mode": {"enum": ["fast"]}}

    fix = refusal(*argv, described=tool(properties)).fix

    assert f'did you mean {meant}? usage: t(cnt?: integer, help?: string, mode?: "fast")' == fix


def test_without_a_near_name_the_fix_is_the_signature():
    assert "usage: t(a?: integer)" == refusal("--zzz", described=tool({"a": {"type": "integer"}})).fix


def test_a_dash_that_may_stand_for_two_names_stands_for_none():
    described = tool({"a_b-c": {}, "a-b_c": {}})

    assert {"a_b-c": "1"} == given_to(described, "--a_b-c=1")
    assert "unknown flag --a-b-c" in refusal("--a-b-c=1", described=described).message


@pytest.mark.parametrize(
    ("more", "argv", "arguments"),
    [
        ({"additionalProperties": True}, ["--new", "1", "other=2"], {"new": "1", "other": "2"}),
        ({"additionalProperties": {"type": "integer"}}, ["--new", "1", "new-er=2"], {"new": 1, "new-er": 2}),
        ({"additionalProperties": {"type": "boolean"}}, ["--new"], {"new": True}),
        ({"patternProperties": {"^x-": {}}, "additionalProperties": False}, ["--x-a", "1"], {"x-a": "1"}),
        ({"$ref": "https://example.com/schema"}, ["--new", "1"], {"new": "1"}),
    ],
)
def test_an_open_schema_takes_names_that_it_does_not_know(more, argv, arguments):
    assert arguments == given_to(tool({}, **more), *argv)


@pytest.mark.parametrize(
    "schema", [None, True, [], {}, {"type": "object"}, {"type": "object", "properties": None}, {"required": ["a"]}]
)
def test_a_schema_without_properties_has_nothing_to_hold_a_flag_against(schema):
    described = {"name": "t", "inputSchema": schema}

    assert {"a": "1", "b": [2]} == given_to(described, "--a", "1", "b:=[2]")
    assert {"a": "1", "b": [2]} == given_to(described, "--args", '{"a": "1", "b": [2]}')
    assert "--b needs a value: any" in refusal("--a", "1", "--b", described=described).message
    ArgumentReader("app", described).check({"a": {"deep": None}})


@pytest.mark.parametrize(
    "schema", [{"properties": {}}, {"additionalProperties": False}, {"allOf": [{"properties": {}}]}]
)
def test_a_schema_that_names_nothing_or_excludes_all_takes_nothing(schema):
    described = {"name": "t", "inputSchema": {"type": "object", **schema}}

    assert {} == given_to(described)
    assert "unknown flag --a" in refusal("--a", "1", described=described).message


@pytest.mark.parametrize(
    "arguments",
    [{"ratio": float("nan")}, {"text": "\ud800"}, {"free": json.loads(nested(65))}, {"bogus": 1}, {"mode": 1}],
)
def test_arguments_that_came_as_json_are_checked_too(arguments):
    with pytest.raises(BadArguments):
        ArgumentReader("app", TOOL).check(arguments)


def test_arguments_that_the_tool_takes_pass():
    ArgumentReader("app", TOOL).check({"text": "a", "count": 2**70, "filter": {"deep": [None]}, "tags": []})


def test_a_message_cannot_act_on_a_terminal():
    failure = refusal("--x\x1b[2J\u202e", described=tool({"a\x1b": {"type": "string"}}))

    assert r"app t: unknown flag --x\x1b[2J\u202e" == failure.message
    assert r"usage: t(a\x1b?: string)" == failure.fix


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=6
)


@settings(max_examples=40)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "text": st.text(),
            "count": st.integers(),
            "ratio": st.floats(allow_nan=False, allow_infinity=False) | st.integers(),
            "dry": st.booleans(),
            "tags": st.lists(st.text(), min_size=2),
            "filter": st.dictionaries(st.text(), json_values, max_size=3),
            "free": st.text(),
        },
    ),
    st.booleans(),
)
@example({"text": "--help", "free": "-h", "ratio": 1e-7}, True)
def test_what_is_written_as_flags_is_read_back(arguments, is_joined):
    argv = []
    for name, value in arguments.items():
        text = value if isinstance(value, str) else json.dumps(value)
        argv += [f"--{name}={text}"] if is_joined or name == "dry" else [f"--{name}", text]

    assert arguments == given_to(TOOL, *argv)


@settings(max_examples=40)
@given(json_values)
def test_any_json_is_read_back(value):
    text = json.dumps(value)

    assert {"free": value} == given_to(TOOL, f"free:={text}")
    assert {"free": value} == given_to(TOOL, "--args", json.dumps({"free": value}))


@settings(max_examples=40)
@given(st.lists(st.text().filter(lambda text: not text.lstrip().startswith("[")), min_size=1))
def test_strings_that_are_repeated_are_read_back(tags):
    assert {"tags": tags} == given_to(TOOL, *[word for tag in tags for word in ("--tags", tag)])


keywords = st.sampled_from(
    ["type", "properties", "required", "anyOf", "allOf", "$ref", "$defs", "items", "enum", "additionalProperties", "x"]
)
kinds = st.sampled_from(["string", "integer", "number", "boolean", "object", "array", "null", "#", "#/$defs/x", "x"])
odd_schemas = st.recursive(
    json_values | kinds,
    lambda inner: st.dictionaries(keywords, inner, max_size=4) | st.lists(inner, max_size=3),
    max_leaves=12,
)
likely_schemas = st.fixed_dictionaries(
    {"properties": st.dictionaries(st.sampled_from(["x", "a_b", "args", "help"]), odd_schemas)},
    optional={"required": odd_schemas, "additionalProperties": odd_schemas},
)
pieces = st.sampled_from(
    ["--", "-", "x", "=", ":=", "a-b", "no-", "args", "help", "@f", "[", "]", "{", "}", '"', "1", "null", "true", "NaN",
     "e9", "\\ud800", "\udcff", ",", ":"]
)  # fmt: skip
words = st.lists(pieces | st.text(st.characters(), max_size=3), max_size=6).map("".join)


@settings(max_examples=80)
@given(odd_schemas | likely_schemas, st.lists(words, max_size=6))
def test_no_command_line_and_no_schema_raise_anything_but_our_own_errors(schema, argv):
    described = {"name": "t", "inputSchema": schema}

    try:
        parsed = ArgumentReader("app", described).parse(argv)
    except TasakError as failure:
        failure.message.encode()
        (failure.fix or "").encode()
    else:
        json.dumps(parsed.arguments, allow_nan=False, ensure_ascii=False).encode()
