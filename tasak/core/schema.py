"""What a tool's JSON Schema says of its parameters.

Schemas are a server's: they may be wrong, circular or made to be expensive. Reading one never raises, never fetches
anything and takes bounded work; what cannot be read counts as "anything", and the server has the last word.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, Final
from urllib.parse import unquote

from tasak.core.json_types import TYPES, both, dict_of, is_same, list_of, text_of, type_of, types_of
from tasak.core.strict_json import parts_of

# Deeper, or with more schemas and enum members in one tool, are only those that never end.
MAX_DEPTH = 32
MAX_NODES = 10_000
# A longer reference is not one that someone wrote.
LONGEST_REF = 1000

# Of what a server sends whole: nobody nests a schema deeper, and a long text counts once more for so many characters.
MAX_NESTING = 128
WEIGHED_TEXT = 256

UNREADABLE = {"additionalProperties": True}

# What a value has to be besides its type, in the words of JSON Schema.
RULES = ("format", "pattern", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems")
# Objects in objects in objects: what lies deeper is not told.
MOST_LEVELS = 3


class Missing:
    """The type of `MISSING`: where a schema says nothing, since what it says may be null."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing()


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter of a tool. No types: anything will do. No choices: any value of the types will."""

    name: str
    types: frozenset[str] = frozenset()
    required: bool = False
    description: str = ""
    default: Any = MISSING
    example: Any = MISSING
    choices: tuple[Any, ...] = ()
    item_types: frozenset[str] = frozenset()
    item_choices: tuple[Any, ...] = ()
    rules: tuple[tuple[str, str | int | float], ...] = ()

    @property
    def is_switch(self) -> bool:
        """Written `--name` or `--no-name`, without a value."""
        return self.types - {"null"} == {"boolean"}

    @property
    def is_array(self) -> bool:
        """Nothing but an array: a value that is none is one of its items."""
        return self.types - {"null"} == {"array"}

    @property
    def has_text(self) -> bool:
        """Whether a value that comes as text is one as it stands."""
        return not self.types or "string" in self.types

    def accepts(self, value: Any) -> bool:
        """Whether types and choices allow `value`; what an array or object holds is the server's to judge."""
        if self.types and not self.types & types_of(value):
            return False
        return not self.choices or any(is_same(value, choice) for choice in self.choices)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """What lies in an object, or in each item of an array: a value, and what lies in that.

    Without a name it stands for all that have no name of their own.
    """

    value: Parameter
    members: tuple["Member", ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What a tool takes: parameters by name, and what others may be; None where it takes no others."""

    named: dict[str, Parameter]
    others: Parameter | None
    is_silent: bool = False
    """Its schema names no parameters at all, and others are anything."""


def inputs(tool: Mapping[str, Any], allowance: "Allowance | None" = None) -> Inputs:
    """What `tool`, as `tools/list` has it, takes. The order is that of its schema.

    What reading it takes is taken from the `allowance`, too, where many are read.
    """
    reader = SchemaReader(tool.get("inputSchema"))
    found = reader.inputs()
    if allowance:
        allowance.left -= reader.spent
    return found


def members(tool: Mapping[str, Any]) -> dict[str, tuple[Member, ...]]:
    """What lies in each parameter, for a reader; nobody checks that."""
    return SchemaReader(tool.get("inputSchema")).members()


@dataclass(frozen=True, slots=True, kw_only=True)
class Properties:
    """What schemas say of the members of an object, before it is read."""

    schemas: dict[str, list[Any]]
    required: Mapping[str, None]
    others: list[Any]
    are_named: bool
    """Whether there are `properties` at all."""

    @property
    def are_open(self) -> bool:
        return bool(self.others) and (self.others[0] is True or isinstance(self.others[0], dict))


@dataclass(slots=True)
class Allowance:
    """What reading the schemas of many tools may take together, counted as for one."""

    left: int


@dataclass(frozen=True, slots=True)
class Reading:
    """What one schema says of a value's type. `types` and `choices` as in `Parameter`; no `items`: any will do."""

    types: frozenset[str] = frozenset()
    choices: tuple[Any, ...] = ()
    items: "Reading | None" = None

    def and_also(self, other: "Reading") -> "Reading":
        types = both(self.types, other.types)
        items = self.items.and_also(other.items) if self.items and other.items else self.items or other.items
        return Reading(types, self.choices or other.choices, items)

    def or_else(self, other: "Reading") -> "Reading":
        types = self.types | other.types if self.types and other.types else frozenset[str]()
        choices = self.closed + other.closed if self.closed and other.closed else ()
        if self.may_be_array and other.may_be_array:
            items = self.items.or_else(other.items) if self.items and other.items else None
        else:
            items = self.items if self.may_be_array else other.items
        return Reading(types, choices, items)

    @property
    def may_be_array(self) -> bool:
        return not self.types or "array" in self.types

    @property
    def closed(self) -> tuple[Any, ...]:
        """Every value that it can be, where they are known."""
        return (None,) if self.types == {"null"} else self.choices


class TooMuch(Exception):
    """What a server sent is more than anyone means."""


def weight(value: Any, most: int) -> int:
    """How many values are in it, those of long texts counting more.

    Raises:
        TooMuch: it is more than `most`, or nested deeper than a schema is.
    """
    found = 0
    level = [value]
    for _ in range(MAX_NESTING):
        found += sum(1 + len(each) // WEIGHED_TEXT if isinstance(each, str) else 1 for each in level)
        if found > most:
            raise TooMuch("is too large")
        level = [inner for each in level for inner in parts_of(each)]
        if not level:
            return found
    raise TooMuch("is nested too deep")


class SchemaReader:
    """Reads one input schema, and stops when that has taken more than a sane one would."""

    def __init__(self, schema: Any) -> None:
        self._root = schema
        self._left = MAX_NODES

    @property
    def spent(self) -> int:
        return MAX_NODES - self._left

    def inputs(self) -> Inputs:
        found = self._properties([self._root])
        # MCP 2025-11-25, Tool.inputSchema: `{"type": "object"}` "accepts any object (including with properties)".
        is_silent = not found.are_named and not found.others
        others = found.others[:1] if found.are_open else [True] if is_silent else None
        return Inputs(
            named=self._parameters(found),
            others=None if others is None else self._parameter("", others, is_required=False),
            is_silent=is_silent,
        )

    def members(self) -> dict[str, tuple[Member, ...]]:
        found = self._properties([self._root])
        return {name: self._members(schemas, MOST_LEVELS) for name, schemas in found.schemas.items()}

    def _members(self, schemas: list[Any], levels: int) -> tuple[Member, ...]:
        if not levels:
            return ()
        found = self._properties([inner for schema in schemas for inner in self._items(schema) or [schema]])
        named = [
            Member(value=value, members=self._members(found.schemas[name], levels - 1))
            for name, value in self._parameters(found).items()
        ]
        others = self._parameter("", found.others[:1], is_required=False) if found.are_open else None
        # That anything else may be there is no news.
        return (*named, Member(value=others)) if others and (others.types or others.choices) else tuple(named)

    def _items(self, schema: Any) -> list[Any]:
        return [part["items"] for part, _ in self._parts(schema) if isinstance(part.get("items"), dict)]

    def _properties(self, schemas: list[Any]) -> Properties:
        """What all of them say together; where there are several, each may be the one that counts."""
        found: dict[str, list[Any]] = {}
        required: dict[str, None] = {}
        others: list[Any] = []
        are_named = False
        for part, is_certain in (each for schema in schemas for each in self._parts(schema)):
            properties, demanded = dict_of(part.get("properties")), list_of(part.get("required"))
            are_named = are_named or isinstance(part.get("properties"), dict)
            if not self._can_afford(0, len(properties) + len(demanded)):
                others.insert(0, True)
                continue
            for name, schema in properties.items():
                found.setdefault(name, []).append(schema)
            if is_certain and len(schemas) == 1:
                required |= {name: None for name in demanded if isinstance(name, str)}
            if part.get("patternProperties"):  # a server's regular expression is not ours to run
                others.insert(0, True)
            if "additionalProperties" in part:
                others.append(part["additionalProperties"])
        for name in required:
            found.setdefault(name, [True])
        return Properties(schemas=found, required=required, others=others, are_named=are_named)

    def _parameters(self, found: Properties) -> dict[str, Parameter]:
        return {
            name: self._parameter(name, schemas, is_required=name in found.required)
            for name, schemas in found.schemas.items()
        }

    def _parameter(self, name: str, schemas: list[Any], *, is_required: bool) -> Parameter:
        reading = reduce(Reading.or_else, [self._read(schema) for schema in schemas])
        said = [part for schema in schemas for part, is_certain in self._parts(schema) if is_certain]
        examples = [value for part in said for value in list_of(part.get("examples"))[:1]]
        items = reading.items or Reading()
        return Parameter(
            name=name,
            types=reading.types,
            required=is_required,
            description=self._paid(
                next(filter(None, [text_of(part.get("description")) for part in said]), ""), instead=""
            ),
            default=self._paid(next((part["default"] for part in said if "default" in part), MISSING)),
            example=self._paid(next(iter(examples), MISSING)),
            choices=reading.choices,
            item_types=items.types,
            item_choices=items.choices,
            rules=tuple(
                {
                    rule: part[rule]
                    for part in reversed(said)
                    for rule in RULES
                    if isinstance(part.get(rule), (str, int, float))
                }.items()
            ),
        )

    def _parts(
        self, schema: Any, *, is_certain: bool = True, seen: frozenset[str] = frozenset(), depth: int = 0
    ) -> Iterator[tuple[dict[str, Any], bool]]:
        """The schema and those it is made of, and whether they hold in any case or are one of several."""
        if not isinstance(schema, dict):
            return
        if not self._can_afford(depth):
            yield UNREADABLE, is_certain
            return
        yield schema, is_certain
        if "$ref" in schema:
            target, path = self._follow(schema["$ref"], seen)
            yield from self._parts(target, is_certain=is_certain, seen=path, depth=depth + 1)
        for key in ("allOf", "anyOf", "oneOf"):
            branches = list_of(schema.get(key))
            # "Or null" is no other way to be what it is.
            holds = key == "allOf" or len([branch for branch in branches if branch != {"type": "null"}]) == 1
            for branch in branches:
                yield from self._parts(branch, is_certain=is_certain and holds, seen=seen, depth=depth + 1)

    def _read(self, schema: Any, seen: frozenset[str] = frozenset(), depth: int = 0) -> Reading:
        if not isinstance(schema, dict) or not self._can_afford(depth):
            return Reading()
        reading = self._read_own(schema, seen, depth)
        if "$ref" in schema:
            reading = reading.and_also(self._read(*self._follow(schema["$ref"], seen), depth + 1))
        for branch in list_of(schema.get("allOf")):
            reading = reading.and_also(self._read(branch, seen, depth + 1))
        for key in ("anyOf", "oneOf"):
            if branches := list_of(schema.get(key)):
                union = reduce(Reading.or_else, [self._read(branch, seen, depth + 1) for branch in branches])
                reading = reading.and_also(union)
        return without_misfits(reading)

    def _read_own(self, schema: dict[str, Any], seen: frozenset[str], depth: int) -> Reading:
        said = schema.get("type")
        types = frozenset(name for name in TYPES if name == said or name in list_of(said))
        choices = tuple(self._paid([schema["const"]] if "const" in schema else list_of(schema.get("enum")), instead=()))
        if choices:
            types = both(types, frozenset(type_of(choice) for choice in choices))
        items = self._read(schema["items"], seen, depth + 1) if isinstance(schema.get("items"), dict) else None
        return Reading(types, choices, items)

    def _follow(self, ref: Any, seen: frozenset[str]) -> tuple[Any, frozenset[str]]:
        """What a reference to a place in this schema points at, and the references followed so far.

        One that leads elsewhere, nowhere or in a circle points at something of which nothing is known.
        """
        if not isinstance(ref, str) or ref in seen or len(ref) > LONGEST_REF or ref[:2] not in ("#", "#/"):
            return UNREADABLE, seen
        place = self._root
        for step in unquote(ref[2:]).split("/") if ref != "#" else ():
            key = step.replace("~1", "/").replace("~0", "~")
            if isinstance(place, list) and key.isascii() and key.isdigit() and int(key) < len(place):
                place = place[int(key)]
            elif isinstance(place, dict) and key in place:
                place = place[key]
            else:
                return UNREADABLE, seen
        return place, seen | {ref}

    def _paid(self, value: Any, *, instead: Any = MISSING) -> Any:
        """The value, if there is enough left for all that is in it: many references may lead to a large one."""
        if not value:
            return value
        try:
            self._left -= weight(value, max(0, self._left))
        except TooMuch:
            self._left = 0
            return instead
        return value

    def _can_afford(self, depth: int, nodes: int = 1) -> bool:
        self._left -= nodes
        return depth < MAX_DEPTH and self._left >= 0


def without_misfits(reading: Reading) -> Reading:
    """Only the choices that the types allow."""
    if not reading.choices:
        return reading
    return replace(reading, choices=tuple(filter(Parameter(name="", types=reading.types).accepts, reading.choices)))
