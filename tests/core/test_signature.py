import json
import shlex
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasak.core.arguments import ArgumentReader
from tasak.core.nearest import nearest
from tasak.core.signature import MISSING, Parameter, example, help_text, kind, parameters, signature
from tasak.inert import inert

ADD = {
    "name": "add",
    "description": "Add two numbers. Slowly.\nReally.",
    "inputSchema": {
        "type": "object",
        "properties": {
            "note": {"type": "string", "default": "x"},
            "a": {"type": "integer", "description": "the first\n  one"},
            "b": {"type": "integer"},
        },
        "required": ["a", "b"],
    },
}


def tool(properties, required=(), **more):
    schema = {"type": "object", "properties": properties, "required": list(required), **more}
    return {"name": "t", "inputSchema": schema}


def only(schema, **more):
    return parameters(tool({"x": schema}, **more))["x"]


def test_the_signature_is_one_line_with_what_is_required_first():
    assert 'add(a: integer, b: integer, note?: string = "x") - Add two numbers' == signature(ADD)


def test_a_server_cannot_break_out_of_the_signatures_line():
    name = "x\x1b[2J\n"
    hostile = {"name": name, "description": "\u202eb", "inputSchema": {"properties": {name: {"enum": [name]}}}}

    assert r'x\x1b[2J\n(x\x1b[2J\n?: "x\u001b[2J\n") - \u202eb' == signature(hostile)


def test_long_parts_of_a_signature_are_cut():
    long = tool({"x": {"enum": ["word" * 5] * 100}, "y": {"default": "d" * 500}}) | {"description": "D" * 500}

    assert f'x?: "{"word" * 5}"|"' in signature(long)
    assert len(signature(long)) < 250
    assert signature(long).endswith("D…")


@pytest.mark.parametrize(
    ("schema", "shown"),
    [
        ({}, "any"),
        (True, "any"),
        ({"type": "integer"}, "integer"),
        ({"type": ["null", "string"]}, "string|null"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "string|null"),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "number"),
        ({"anyOf": [{"type": "string"}, {}]}, "any"),
        ({"allOf": [{"type": "integer"}, {"minimum": 3}]}, "integer"),
        ({"type": "number", "allOf": [{"type": "integer"}]}, "integer"),
        ({"type": "object", "anyOf": [{"required": ["a"]}, {"required": ["b"]}]}, "object"),
        ({"type": "array"}, "array"),
        ({"type": "array", "items": {"type": "string"}}, "string[]"),
        ({"type": "array", "items": {"type": ["string", "null"]}}, "(string|null)[]"),
        ({"type": "array", "items": {"enum": ["a", "b"]}}, '("a"|"b")[]'),
        ({"type": ["string", "array"], "items": {"type": "string"}}, "string|string[]"),
        ({"enum": ["a", "b"]}, '"a"|"b"'),
        ({"const": 7}, "7"),
        ({"anyOf": [{"enum": ["a"]}, {"const": "b"}, {"type": "null"}]}, '"a"|"b"|null'),
        ({"type": "string", "enum": ["a", 1]}, '"a"'),
        ({"type": "integer", "enum": ["1"]}, '"1"'),
        ({"$ref": "#/$defs/word"}, "string"),
        ({"$ref": "#/definitions/od~1d"}, "integer"),
        ({"$ref": "#/$defs/list/1"}, "boolean"),
        ({"$ref": "#/$defs/a%20b"}, "null"),
        ({"$ref": "https://example.com/schema.json"}, "any"),
        ({"$ref": "#/$defs/none"}, "any"),
        ({"$ref": "#/$defs/loop"}, "any"),
        ({"$ref": 7}, "any"),
        ({"type": "any"}, "any"),
        ({"type": {"odd": 1}, "enum": 7, "anyOf": "x", "items": [1]}, "any"),
    ],
)
def test_types_are_read_from_the_schema(schema, shown):
    definitions = {
        "word": {"type": "string"},
        "list": [{}, {"type": "boolean"}],
        "a b": {"type": "null"},
        "loop": {"$ref": "#/$defs/loop"},
    }

    parameter = only(schema, **{"$defs": definitions, "definitions": {"od/d": {"type": "integer"}}})

    assert shown == kind(parameter)


def test_a_parameter_has_what_the_schema_says_of_it():
    schema = {"$ref": "#/$defs/x", "default": None, "examples": [["a"], ["b"]]}
    definition = {"type": "array", "items": {"type": "string"}, "description": "from there"}

    parameter = only(schema, required=["x"], **{"$defs": {"x": definition}})

    expected = Parameter(
        name="x",
        types=frozenset({"array"}),
        required=True,
        description="from there",
        default=None,
        example=["a"],
        item_types=frozenset({"string"}),
    )
    assert expected == parameter
    assert MISSING is only({}).default


def test_parameters_are_found_wherever_the_schema_has_them():
    schema = {
        "$ref": "#/$defs/all",
        "anyOf": [
            {"properties": {"kind": {"const": "a"}, "one": {}}, "required": ["one"]},
            {"properties": {"kind": {"const": "b"}}, "required": ["kind"]},
        ],
        "$defs": {"all": {"properties": {"common": {"type": "string"}}, "required": ["common", "unsaid"]}},
    }

    found = parameters({"name": "t", "inputSchema": schema})

    assert {"common", "unsaid", "kind", "one"} == set(found)
    assert {"common", "unsaid"} == {name for name, parameter in found.items() if parameter.required}
    assert ("a", "b") == found["kind"].choices


def test_a_schema_that_multiplies_takes_bounded_work():
    definitions = {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 50} for n in range(30)}
    begin = time.perf_counter()

    parameter = only({"$ref": "#/$defs/d0"}, **{"$defs": definitions})

    assert "any" == kind(parameter)
    assert time.perf_counter() - begin < 2


def test_a_schema_that_is_nested_without_end_is_anything():
    schema = {}
    schema["items"] = schema["anyOf"] = schema
    endless = {"type": "array"}
    endless["items"] = endless

    assert "any" == kind(only(schema))
    assert "array[]" == kind(only(endless))


def test_help_names_every_flag_with_all_that_there_is_to_know():
    properties = {
        "max_results": {"type": "integer", "description": "how\n many", "default": 10},
        "tags": {"type": "array", "items": {"type": "string"}},
        "dry": {"type": "boolean"},
        "mode": {"enum": ["fast", "slow"], "description": "which"},
        "args": {"type": "string"},
        "two words": {},
    }

    shown = help_text("files", tool(properties, ["mode"]) | {"description": "Finds.\n\nMore."})

    assert (
        "Finds.\n\nMore.\n\n"
        "Arguments:\n"
        "  --max_results integer  (default: 10)\n"
        "      how many\n"
        "  --tags string[]  (may be repeated)\n"
        "  --dry / --no-dry\n"
        '  --mode "fast"|"slow"  (required)\n'
        "      which\n"
        "  args=… string\n"
        '  "two words" any  (only with --args)\n\n'
        "In a name, - may stand for _: --max-results.\n"
        "NAME=VALUE stands for --NAME VALUE, and NAME:=JSON gives a value as JSON.\n"
        "--args JSON|@file|- gives many at once, as a JSON object: as it is, from a file or from stdin.\n\n"
        "Example:\n"
        "  tasak files t --mode fast\n"
    ) == shown


ADDRESS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
ORDER = {
    "customer": {
        "type": "object",
        "description": "Who orders",
        "properties": {
            "name": {"type": "string", "description": "The full\n name", "minLength": 1},
            "address": {"anyOf": [{"$ref": "#/$defs/address"}, {"type": "null"}], "default": None},
        },
        "required": ["name"],
    },
    "lines": {
        "type": "array",
        "minItems": 1,
        "items": {
            "type": "object",
            "properties": {
                "sku": {"type": "string"},
                "count": {"type": "integer", "minimum": 1, "maximum": 9},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            },
            "required": ["sku"],
        },
    },
}


def test_help_names_what_lies_in_objects_and_in_the_items_of_arrays():
    shown = help_text("shop", tool(ORDER, ["customer", "lines"], **{"$defs": {"address": ADDRESS}}))

    assert (
        "Arguments:\n"
        "  --customer object  (required)\n"
        "      Who orders\n"
        '      "name": string  (required, minLength: 1) - The full name\n'
        '      "address": object|null  (default: null)\n'
        '        "city": string  (required)\n'
        "  --lines object[]  (required, may be repeated, minItems: 1)\n"
        '      "sku": string  (required)\n'
        '      "count": integer  (minimum: 1, maximum: 9)\n'
        '      "labels": object\n'
        "        …: string\n\n"
    ) in shown
    assert """  tasak shop t --customer '{"name": "text"}' --lines '[{"sku": "text"}]'\n""" in shown


def test_help_ends_where_a_schema_does_not():
    endless = {"type": "object", "properties": {"next": {"$ref": "#/$defs/endless"}}}
    wide = {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(500)}}

    deep = help_text("a", tool({"x": {"$ref": "#/$defs/endless"}}, **{"$defs": {"endless": endless}}))
    long = help_text("a", tool({"x": wide, "y": wide}))

    assert 3 == deep.count('"next": object')
    assert 80 == long.count('"p')
    assert 2 == long.count("…  (all of it: `tasak --json a`)")


def test_what_may_be_null_is_described_all_the_same():
    nullable = {"anyOf": [{"type": "string", "description": "which", "format": "uri"}, {"type": "null"}]}

    assert '  --x string|null  (format: "uri")\n      which\n' in help_text("a", tool({"x": nullable}))


def test_a_tool_without_parameters_says_so():
    assert "It takes no arguments." in help_text("a", tool({}))
    assert "It takes other arguments too: --NAME integer." in help_text(
        "a", tool({}, additionalProperties={"type": "integer"})
    )


def test_a_tool_that_takes_anything_says_so():
    silent = {"name": "t", "inputSchema": {"type": "object"}}

    assert "t()" == signature(silent)
    assert "Its schema names no arguments, and excludes none" in help_text("a", silent)
    assert "It takes no arguments." not in help_text("a", silent)
    assert "t(x?: string, …: integer)" == signature(
        tool({"x": {"type": "string"}}, additionalProperties={"type": "integer"})
    )


@pytest.mark.parametrize(
    ("properties", "words"),
    [
        ({"a": {"type": "integer"}, "b": {"type": "number"}}, "--a 1 --b 1.5"),
        ({"a": {"type": "string", "examples": ["it's"]}}, """--a 'it'"'"'s'"""),
        ({"a": {"type": "string", "examples": [7], "default": "d"}}, "--a d"),
        ({"a": {"type": "string", "examples": ["\x1b"]}}, r"""'a:="\u001b"'"""),
        ({"a": {"type": "boolean"}, "b": {"type": "boolean", "default": False}}, "--a --b=false"),
        ({"a": {"type": "array", "items": {"type": "string"}}}, "--a text"),
        ({"a": {"type": "array", "items": {"type": "integer"}}}, "--a '[1]'"),
        ({"a": {"type": "object"}, "b": {"type": "null"}}, "--a '{}' b:=null"),
        ({"args": {"type": "string"}, "help": {"type": "boolean"}}, "'args=text' help=true"),
        ({"two words": {"type": "integer"}}, """--args '{"two words": 1}'"""),
        ({"a": {"enum": [1, "b"]}}, "a:=1"),
        ({"a": {"properties": {"b": {"type": "integer"}}, "required": ["b"]}}, """'a:={"b": 1}'"""),
        ({"a": {"type": "object", "properties": {"b": {"enum": ["c"]}}, "required": ["b"]}}, """--a '{"b": "c"}'"""),
    ],
)
def test_the_example_gives_all_that_is_required(properties, words):
    command = example("app", tool(properties, properties))

    assert f"tasak app t {words}".replace("'args=text'", "args=text") == command


def test_an_app_of_a_reserved_name_is_called_behind_two_dashes():
    assert "tasak -- ping t" == example("ping", tool({}))


names = st.text(min_size=1, max_size=6) | st.sampled_from(["args", "help", "a_b", "a-b", "no-x", "x", "h", "-x", "a="])
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3), max_leaves=4)
types = st.sampled_from(["string", "integer", "number", "boolean", "object", "array", "null"])
plain_schemas = st.fixed_dictionaries(
    {},
    optional={
        "type": types | st.lists(types, min_size=1, max_size=3),
        "default": values,
        "examples": st.lists(values, max_size=2),
        "items": st.fixed_dictionaries({"type": types}),
    },
)
choosing_schemas = st.fixed_dictionaries({"enum": st.lists(values, min_size=1, max_size=3)})
schemas = st.dictionaries(names, plain_schemas | choosing_schemas, max_size=4)


@settings(max_examples=40)
@given(schemas, st.data())
def test_the_example_in_the_help_is_a_call_that_the_tool_takes(properties, data):
    required = data.draw(st.lists(st.sampled_from(list(properties)))) if properties else []
    described = tool(properties, required)

    command = help_text("ping", described).splitlines()[-1]

    argv = shlex.split(command)
    assert ["tasak", "--", "ping", "t"] == argv[:4]
    assert set(required) == set(ArgumentReader("ping", described).parse(argv[4:]).arguments)


anything = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=6)
keywords = st.sampled_from(
    ["type", "properties", "required", "anyOf", "oneOf", "allOf", "$ref", "$defs", "items", "enum", "const", "default",
     "description", "additionalProperties", "patternProperties", "examples", "x", "#", "#/properties/x", "#/$defs/x"]
)  # fmt: skip
hostile = st.recursive(
    anything | keywords | types,
    lambda inner: st.dictionaries(keywords, inner, max_size=4) | st.lists(inner, max_size=3),
    max_leaves=15,
)


@settings(max_examples=30)
@given(hostile, anything, anything)
def test_no_schema_of_a_server_makes_reading_it_raise(schema, name, description):
    described = {"name": name, "description": description, "inputSchema": schema}

    line = signature(described)
    text = help_text("a", described)

    assert line == inert(line)
    assert "\n" not in line
    assert text == inert(text)
    assert text.endswith("\n")


def test_values_without_end_do_not_make_reading_raise():
    endless = []
    endless.append(endless)
    schema = {"enum": [endless], "default": endless, "examples": [endless]}

    described = tool({"x": schema, "y": {"default": 10**5000}}, ["x"])

    assert "t(x: any, y?: any)" == signature(described)
    assert "tasak a t" in help_text("a", described)


@pytest.mark.parametrize(
    ("name", "close"),
    [
        ("cuont", "count"),
        ("maxResults", "max_results"),
        ("max-results", "max_results"),
        ("zzz", None),
        ("c" * 999, None),
    ],
)
def test_the_nearest_name_is_the_one_that_was_probably_meant(name, close):
    assert close == nearest(name, ["count", "max_results", json.dumps("other")])
