"""A tool as its reader sees it: its signature on one line, and its help."""

import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from tasak.core.json_types import TYPES, dict_of, text_of
from tasak.core.schema import MISSING, Allowance, Inputs, Member, Parameter, inputs, members
from tasak.inert import inert, inert_json, one_line
from tasak.wire import RESERVED

__all__ = [
    "MISSING",
    "OURS",
    "Parameter",
    "example",
    "help_text",
    "kind",
    "label",
    "parameters",
    "shown",
    "signature",
    "signatures",
]

# Parameters of these names are written `args=…`: the flags are ours.
OURS = frozenset({"args", "help"})

# What is left of long things: an agent reads many signatures at once, and one help text.
SIGNATURE_LENGTH = 1000
SUMMARY_LENGTH = 80
SHOWN_LENGTH = 60
DEFAULT_LENGTH = 40
HELP_LENGTH = 1000
EXAMPLE_LENGTH = 120
MEMBER_LENGTH = 300
# Of what lies in the objects that a tool takes; and what an example may hold of it.
MOST_MEMBERS = 80
OBJECT_LENGTH = 500

# What the schemas of one list may take to read, some seconds; small ones that refer to themselves take minutes.
MOST_READ = 500_000

SAMPLES: Mapping[str, Any] = {
    "string": "text", "integer": 1, "number": 1.5, "boolean": True, "array": [], "null": None,
}  # fmt: skip


def parameters(tool: Mapping[str, Any], allowance: Allowance | None = None) -> dict[str, Parameter]:
    """The parameters that the tool's input schema names, in its order."""
    return inputs(tool, allowance).named


def signatures(tools: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """The line of each; where reading their schemas takes too much, those that are left are `name(…)`."""
    allowance = Allowance(MOST_READ)
    for tool in tools:
        yield signature(tool, allowance)


def signature(tool: Mapping[str, Any], allowance: Allowance | None = None) -> str:
    """One line: `add(a: integer, b: integer, note?: string = "x") - Add two numbers`."""
    is_read = allowance is None or allowance.left > 0
    line = f"{tool_name(tool)}({declared(tool, allowance) if is_read else '…'})"
    summary = first_sentence(intro(tool))
    return one_line(f"{line} - {summary}" if summary else line, SIGNATURE_LENGTH)


def help_text(app: str, tool: Mapping[str, Any]) -> str:
    """All that there is to know of the tool, as plain text that ends with an example to run."""
    taken = inputs(tool)
    inside = members(tool)
    left = MOST_MEMBERS
    lines: list[str] = []
    for name, parameter in taken.named.items():
        within = list(islice(member_lines(inside.get(name, ()), "      "), left + 1))
        lines += [*help_lines(parameter), *within[:left]]
        if len(within) > left:
            lines.append(f"      …  (all of it: `tasak --json {shlex.quote(app)}`)")
        left = max(0, left - len(within))
    paragraphs = [
        intro(tool) or tool_name(tool),
        "\n".join(["Arguments:", *lines]) if lines else "It takes no arguments." if not taken.others else "",
        "\n".join(notes(taken)),
        f"Example:\n  {example(app, tool)}",
    ]
    return inert("\n\n".join(filter(None, paragraphs))) + "\n"


def example(app: str, tool: Mapping[str, Any]) -> str:
    """A command that calls the tool with all that it requires, quoted for a shell."""
    inside = members(tool)
    required = [parameter for parameter in parameters(tool).values() if parameter.required]
    samples = {parameter.name: sample(parameter, inside.get(parameter.name, ())) for parameter in required}
    if all(is_plain(name) for name in samples):
        words = [word for parameter in required for word in as_words(parameter, samples[parameter.name])]
    else:
        words = ["--args", ascii_json(samples)]
    return shlex.join(["tasak", *(["--"] if app in RESERVED else []), app, tool_name(tool), *words])


def kind(parameter: Parameter, limit: int = SHOWN_LENGTH) -> str:
    """What it may be, as a reader sees it: `integer`, `string[]`, `string|null`, `"a"|"b"`."""
    if parameter.choices:
        return one_line("|".join(compact(choice) for choice in parameter.choices[:limit]), limit)
    item = Parameter(name="", types=parameter.item_types, choices=parameter.item_choices)
    kinds = {name: name for name in TYPES if name in parameter.types}
    if "number" in kinds:  # every integer is one
        kinds.pop("integer", None)
    if "array" in kinds and (item.types or item.choices):
        items = kind(item, limit)
        kinds["array"] = f"({items})[]" if "|" in items else f"{items}[]"
    return "|".join(kinds.values()) or "any"


def label(name: str, limit: int = SHOWN_LENGTH) -> str:
    """How a reader is told of a parameter: `--name`, or `args=…` for one of a name that is ours."""
    return one_line(f"{name}=…" if name in OURS else f"--{name}", limit)


def shown(value: Any, limit: int = SHOWN_LENGTH) -> str:
    """`value` as JSON on one line, for messages."""
    return one_line(compact(value[: limit + 1] if isinstance(value, str) else value), limit)


def tool_name(tool: Mapping[str, Any]) -> str:
    return text_of(tool.get("name"))


def intro(tool: Mapping[str, Any]) -> str:
    title = text_of(tool.get("title")) or text_of(dict_of(tool.get("annotations")).get("title"))
    return (text_of(tool.get("description")).strip() or title).strip()


def first_sentence(text: str) -> str:
    line = text.partition("\n")[0][: SUMMARY_LENGTH * 4]
    sentence = re.split(r"(?<=[.!?])\s+(?![a-z])", line, maxsplit=1)[0]
    return one_line(sentence.strip().removesuffix("."), SUMMARY_LENGTH)


def declared(tool: Mapping[str, Any], allowance: Allowance | None) -> str:
    taken = inputs(tool, allowance)
    in_order = sorted(taken.named.values(), key=lambda parameter: not parameter.required)
    others = [f"…: {kind(taken.others)}"] if taken.others and not taken.is_silent else []
    return ", ".join([*(as_declared(parameter) for parameter in in_order), *others])


def as_declared(parameter: Parameter) -> str:
    mark = "" if parameter.required else "?"
    default = "" if parameter.default is MISSING else f" = {shown(parameter.default, DEFAULT_LENGTH)}"
    return f"{parameter.name}{mark}: {kind(parameter)}{default}"


def help_lines(parameter: Parameter) -> Iterator[str]:
    remarks = [
        "required" if parameter.required else "",
        "may be repeated" if "array" in parameter.types else "",
        *rules(parameter),
        "" if parameter.default is MISSING else f"default: {shown(parameter.default, HELP_LENGTH)}",
        "" if is_plain(parameter.name) else "only with --args",
    ]
    yield f"  {flag(parameter)}{in_brackets(remarks)}"
    if description := " ".join(parameter.description.split()):
        yield f"      {description}"


def member_lines(inside: Iterable[Member], indent: str) -> Iterator[str]:
    """What lies in an object, a line each: the names as JSON has them, since that is how they are written."""
    for each in inside:
        value = each.value
        name = shown(value.name) if value.name else "…"
        remarks = [
            "required" if value.required else "",
            *rules(value),
            "" if value.default is MISSING else f"default: {shown(value.default)}",
        ]
        description = " ".join(value.description.split())
        line = f"{name}: {kind(value, MEMBER_LENGTH)}{in_brackets(remarks)}{' - ' if description else ''}{description}"
        yield f"{indent}{one_line(line, MEMBER_LENGTH)}"
        yield from member_lines(each.members, indent + "  ")


def rules(parameter: Parameter) -> list[str]:
    return [f"{name}: {shown(value)}" for name, value in parameter.rules]


def in_brackets(remarks: Iterable[str]) -> str:
    said = ", ".join(filter(None, remarks))
    return f"  ({said})" if said else ""


def flag(parameter: Parameter) -> str:
    name = parameter.name
    if not is_plain(name):
        return f"{shown(name)} {kind(parameter, HELP_LENGTH)}"
    if parameter.is_switch and not parameter.choices and name not in OURS:
        return f"--{name} / --no-{name}"
    return f"{label(name, HELP_LENGTH)} {kind(parameter, HELP_LENGTH)}"


def notes(taken: Inputs) -> Iterator[str]:
    if taken.is_silent:
        yield "Its schema names no arguments, and excludes none: --NAME VALUE gives a string."
    elif taken.others:
        yield f"It takes other arguments too: --NAME {kind(taken.others)}."
    if name := next((name for name in taken.named if "_" in name and is_plain(name)), ""):
        yield f"In a name, - may stand for _: --{name.replace('_', '-')}."
    yield "NAME=VALUE stands for --NAME VALUE, and NAME:=JSON gives a value as JSON."
    yield "--args JSON|@file|- gives many at once, as a JSON object: as it is, from a file or from stdin."


def is_plain(name: str) -> bool:
    """Whether a flag of that name can be written, and read by a person."""
    return bool(name) and name.isprintable() and not name.startswith("-") and not set(" =") & set(name)


def sample(parameter: Parameter, inside: Iterable[Member] = ()) -> Any:
    """A value that the parameter takes: what its schema proposes, else one of its type, with what that has to hold."""
    for value in (parameter.example, parameter.default, *parameter.choices):
        if value is not MISSING and value is not None and parameter.accepts(value) and is_short(value):
            return value
    held = {each.value.name: sample(each.value, each.members) for each in inside if each.value.required}
    if not is_short(held, OBJECT_LENGTH):
        held = {}
    if parameter.is_array:
        item = Parameter(name="", types=parameter.item_types, choices=parameter.item_choices)
        return [] if "array" in item.types else [of_type(item, held)]
    return of_type(parameter, held)


def of_type(parameter: Parameter, held: dict[str, Any]) -> Any:
    """A value of the parameter's type; `held` where that may be an object."""
    for choice in parameter.choices:
        if choice is not None and parameter.accepts(choice) and is_short(choice):
            return choice
    name = next((name for name in TYPES if name in parameter.types), "object" if held else "string")
    return held if name == "object" else SAMPLES[name]


def is_short(value: Any, limit: int = EXAMPLE_LENGTH) -> bool:
    """Whether it is JSON, and JSON that fits into an example."""
    try:
        return len(json.dumps(value, ensure_ascii=False, allow_nan=False).encode()) <= limit
    except (RecursionError, TypeError, ValueError):
        return False


def as_words(parameter: Parameter, value: Any) -> list[str]:
    """The words of a command line that give `value`, as plainly as they can."""
    name = parameter.name
    text = as_text(parameter, value)
    if text is None:
        return [f"{name}:={ascii_json(value)}"]
    if name in OURS:
        return [f"{name}={text}"]
    if parameter.is_switch:
        return [f"--{name}"] if value is True else [f"--{name}={text}"]
    return [f"--{name}", text]


def as_text(parameter: Parameter, value: Any) -> str | None:
    """The text that is read as `value`; None where only JSON says it."""
    if isinstance(value, str):
        return value if parameter.has_text and value == one_line(value, EXAMPLE_LENGTH) else None
    if parameter.has_text or value is None or (isinstance(value, float) and "number" not in parameter.types):
        return None
    if parameter.is_array and len(value) == 1 and isinstance(value[0], str) and value[0][:1] not in "[{":
        return as_text(Parameter(name="", types=parameter.item_types), value[0])
    if isinstance(value, list) and "array" in parameter.item_types:
        return None
    return ascii_json(value)


def ascii_json(value: Any) -> str:
    return inert_json(json.dumps(value))


def compact(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except (RecursionError, TypeError, ValueError):  # it is nested too deep, no JSON, or a number of too many digits
        return "…"
