"""The keys of an app that belong to its transport, checked with the transport's own JSON Schema."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jsonschema.exceptions import SchemaError, ValidationError, best_match
from jsonschema.validators import Draft202012Validator, validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable

from tasak.core.digest import digest
from tasak.errors import BadConfig, BrokenTransport
from tasak.inert import one_line
from tasak.transports.registry import Transport

# JSON Schema's words for types, and ours.
TYPES = {"array": "a list", "object": "a mapping", "boolean": "true or false", "string": "a string", "null": "null"}


# What `expectation` says in words of its own; of the rest, what the plugin says of the option is of more use.
SAID = ("type", "required", "enum", "additionalProperties", "unevaluatedProperties")
DESCRIPTION_LENGTH = 200

# So many apps that fit are not checked again; their options are kept as digests, since they may hold secrets.
MEMORY = 1024


PartsOf = Callable[[Mapping[str, Any]], Sequence[str]]
"""The names of the apps that one with these options is made of."""


def no_parts(options: Mapping[str, Any]) -> Sequence[str]:
    return ()


class TransportOptions:
    """What a transport takes in the config.

    Raises:
        BrokenTransport: `schema` is no JSON Schema.
    """

    def __init__(self, transport: str, schema: Mapping[str, Any], parts_of: PartsOf = no_parts) -> None:
        schema = dict(schema)
        try:
            kind = validator_for(schema, default=Draft202012Validator)
            kind.check_schema(schema)
        except SchemaError as problem:
            raise unusable(transport, f"{problem.json_path}: {problem.message}") from problem
        except Exception as problem:  # it may be any mixture of objects
            raise unusable(transport, f"{type(problem).__name__}: {problem}") from problem
        names = schema.get("properties", {})
        if strange := next((repr(name) for name in names if not isinstance(name, str)), None):
            raise unusable(transport, f"$.properties: {strange} is no string")
        self.transport = transport
        self.names = frozenset(names)
        self.commands = with_format("command", schema)
        self.templates = with_format("template", schema)
        self.parts_of = parts_of
        self._fitting: set[str] = set()
        # A registry of our own: the library's would fetch what `$ref` names from the network.
        self._validator = kind(schema, registry=Registry())

    def check(self, options: Mapping[str, Any], where: str) -> None:
        """Hold `options` against the schema. No value is shown: it may be a secret.

        Raises:
            BadConfig: they do not fit.
            BrokenTransport: the schema refers to what is not there.
        """
        key = digest(options)
        if key in self._fitting:
            return
        try:
            problem = best_match(self._validator.iter_errors(dict(options)))
        except (Unresolvable, re.error, RecursionError) as reason:
            raise unusable(self.transport, f"{type(reason).__name__}: {reason}") from reason
        if problem is not None:
            path = ".".join(str(part) for part in problem.absolute_path)
            named = f"{path!r} " if path else ""
            raise BadConfig(f"{where}: {named}{expectation(problem)}", fix=advice(problem, path))
        if len(self._fitting) >= MEMORY:
            self._fitting.clear()
        self._fitting.add(key)


def options_of(transport: Transport) -> TransportOptions:
    """What a transport takes, without its parts.

    Raises:
        BrokenTransport: it does not say so.
    """
    return TransportOptions(transport.name, transport.schema())


def with_format(name: str, schema: Mapping[str, Any]) -> frozenset[str]:
    """The options whose format is one of ours, which JSON Schema does not know."""
    return frozenset(
        option
        for option, described in schema.get("properties", {}).items()
        if isinstance(described, dict) and described.get("format") == name
    )


def unusable(transport: str, reason: str) -> BrokenTransport:
    return BrokenTransport(
        f"the transport {transport!r} cannot be used: its transport_schema is no JSON Schema: {one_line(reason)}",
        fix="mend or uninstall its package: `tasak plugins` shows the file",
    )


def expectation(problem: ValidationError) -> str:
    wanted: Any = problem.validator_value
    instance: Any = problem.instance
    match problem.validator:
        case "type":
            kinds = [wanted] if isinstance(wanted, str) else wanted
            return f"has to be {' or '.join(TYPES.get(kind, f'a {kind}') for kind in kinds)}"
        case "required":
            return f"lacks {next(repr(name) for name in wanted if name not in instance)}"
        case "enum":
            return f"has to be one of {', '.join(json.dumps(each) for each in wanted)}"
        case "additionalProperties" | "unevaluatedProperties" if isinstance(instance, dict):
            known = problem.schema.get("properties", {}) if isinstance(problem.schema, dict) else {}
            return f"has an unknown key: {', '.join(repr(key) for key in instance if key not in known)}"
    return f"does not fit: {problem.validator} {json.dumps(wanted, default=str)[:200]}"


def advice(problem: ValidationError, path: str) -> str | None:
    wanted: Any = problem.validator_value
    described = problem.schema.get("description") if isinstance(problem.schema, dict) else None
    if problem.validator not in SAID and isinstance(described, str):
        return one_line(f"{path.rpartition('.')[2]} is: {described}", DESCRIPTION_LENGTH)
    if problem.validator != "type" or "string" not in wanted:
        return None
    if isinstance(problem.instance, bool | None):
        return f'quote it: {path.rpartition(".")[2]}: "{json.dumps(problem.instance)}"'
    return "quote it" if isinstance(problem.instance, int | float) else None
