"""The tools of a curated app as the config has them, read and checked before anything is called."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from jsonschema.exceptions import SchemaError, best_match
from jsonschema.protocols import Validator
from jsonschema.validators import Draft202012Validator, validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable

from tasak.errors import BadArguments, BadConfig
from tasak.inert import one_line
from tasak.transports.templates import NotATemplate, Reference, Template, read, references

# What makes a schema take names that its `properties` do not list.
OPENING = ("additionalProperties", "patternProperties", "$ref", "allOf", "anyOf", "oneOf")

FORMS = "templates are ${args.NAME}, ${steps.N.text} and ${steps.N.structured.NAME}; $$ is a dollar"


@dataclass(frozen=True, slots=True, kw_only=True)
class AppStep:
    """Call another app's tool."""

    app: str
    tool: str
    arguments: Mapping[str, Any]
    """With templates in it."""

    def __str__(self) -> str:
        return f"{self.app} {self.tool}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandStep:
    """Run a program."""

    words: Sequence[str | Template]
    name: str
    """The first word as the config has it."""

    def __str__(self) -> str:
        return self.name


Step: TypeAlias = AppStep | CommandStep


@dataclass(frozen=True, slots=True, kw_only=True)
class CuratedTool:
    """One tool: what it takes, and the steps that it is made of."""

    name: str
    description: str | None
    schema: dict[str, Any]
    validator: Validator
    steps: Sequence[Step]

    def listed(self) -> dict[str, Any]:
        """The tool as `tools/list` has it."""
        described = {} if self.description is None else {"description": self.description}
        return {"name": self.name, **described, "inputSchema": self.schema}

    def checked(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments, with the defaults of those that are not `given`.

        Raises:
            BadArguments: the tool does not take them.
            BadConfig: its parameters cannot be understood.
        """
        arguments = {**defaults(self.schema), **given}
        try:
            problem = best_match(self.validator.iter_errors(arguments))
        except (Unresolvable, re.error, RecursionError) as reason:
            raise BadConfig(f"its parameters cannot be understood: {reason}") from reason
        if problem is not None:
            place = "".join(f"{part}: " for part in problem.absolute_path)
            raise BadArguments(one_line(place + problem.message))
        return arguments


def read_tools(app: str, tools: Mapping[str, Any]) -> dict[str, CuratedTool]:
    """The tools of the app of that name, which its `tools:` describes as the transport's schema says.

    Raises:
        BadConfig: parameters are no JSON Schema, or a template is none or names what will not be there.
    """
    return {name: read_tool(app, name, raw) for name, raw in tools.items()}


def read_tool(app: str, name: str, raw: Mapping[str, Any]) -> CuratedTool:
    where = f"{app}: tool {name!r}"
    schema = {"type": "object", "properties": {}, **plain(raw.get("parameters", {}), f"{where}, its parameters")}
    validator = as_validator(schema, where)
    steps = [read_step(step, f"{where}, step {number}") for number, step in enumerate(raw["steps"])]
    for number, step in enumerate(steps):
        for reference in references(step.arguments if isinstance(step, AppStep) else step.words):
            refuse_unknown(reference, schema, steps[:number], f"{where}, step {number}")
    description = plain(raw.get("description"), f"{where}, its description")
    return CuratedTool(name=name, description=description, schema=schema, validator=validator, steps=steps)


def read_step(raw: Mapping[str, Any], where: str) -> Step:
    if "command" in raw:
        words = [template(str(word), where) for word in raw["command"]]
        return CommandStep(words=words, name=one_line(str(raw["command"][0])))
    return AppStep(
        app=plain(raw["app"], where),
        tool=plain(raw["tool"], where),
        arguments=template(raw.get("arguments", {}), where),
    )


def template(value: Any, where: str) -> Any:
    try:
        return read(value)
    except NotATemplate as problem:
        raise BadConfig(f"{where}: {problem}", fix=FORMS) from None


def plain(value: Any, where: str) -> Any:
    """`value` where no template is ever filled in."""
    ready = template(value, where)
    for reference in references(ready):
        raise BadConfig(
            f"{where}: {reference} is not filled in here",
            fix="templates belong into a step's `arguments` or `command`; $$ is a dollar",
        )
    return ready


def as_validator(schema: dict[str, Any], where: str) -> Validator:
    kind = validator_for(schema, default=Draft202012Validator)
    try:
        kind.check_schema(schema)
    except (SchemaError, RecursionError) as problem:
        reason = problem.message if isinstance(problem, SchemaError) else "they are nested too deep"
        raise BadConfig(f"{where}: its parameters are no JSON Schema: {one_line(reason)}") from problem
    # A registry of our own: the library's would fetch what `$ref` names from the network.
    return kind(schema, registry=Registry())


def refuse_unknown(reference: Reference, schema: Mapping[str, Any], earlier: Sequence[Step], where: str) -> None:
    """Refuse a reference to what will not be there when the step after the `earlier` ones runs."""
    match reference.path:
        case ("args", *path) if path:
            if not is_declared(path, schema):
                known = ", ".join(schema["properties"]) or "none"
                raise BadConfig(f"{where}: {reference} is no parameter", fix=f"declare it; the parameters are: {known}")
        case ("steps", number, "text") | ("steps", number, "structured", *_):
            if number not in map(str, range(len(earlier))):
                raise BadConfig(
                    f"{where}: {reference} is of no earlier step",
                    fix="steps count from 0, and use only what was there before them",
                )
            if reference.path[2] == "structured" and isinstance(earlier[int(number)], CommandStep):
                raise BadConfig(f"{where}: {reference}: a command has only text", fix=f"write ${{steps.{number}.text}}")
        case _:
            raise BadConfig(f"{where}: {reference} is no template", fix=FORMS)


def is_declared(path: Sequence[str], schema: Any) -> bool:
    """Whether a value at `path` is one that `schema` describes, as far as it names what it takes.

    One that has `properties` takes no others, unless it says so.
    """
    is_open = not isinstance(schema, dict) or any(schema.get(key, False) is not False for key in OPENING)
    if not path or is_open or "properties" not in schema:
        return True
    return path[0] in schema["properties"] and is_declared(path[1:], schema["properties"][path[0]])


def defaults(schema: Mapping[str, Any]) -> dict[str, Any]:
    """What the schema says of arguments that are not given."""
    described = schema["properties"].items()
    return {name: each["default"] for name, each in described if isinstance(each, dict) and "default" in each}
