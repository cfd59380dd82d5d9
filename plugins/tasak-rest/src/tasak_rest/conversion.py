"""Operations as tools. FastMCP converts their schemas, and puts arguments into requests; this is all that we ask of it.

Imports FastMCP: half a second that a thread should pay.
"""

import logging
from collections.abc import Mapping
from typing import Any

import httpx2
from fastmcp.utilities.openapi import HTTPRoute, parse_openapi_to_http_routes
from fastmcp.utilities.openapi.director import RequestDirector
from jsonschema.exceptions import best_match
from jsonschema.validators import Draft202012Validator
from jsonschema_path import SchemaPath
from pydantic import ValidationError
from referencing import Registry
from tasak.plugin import ConnectFailed

from tasak_rest.document import Description
from tasak_rest.excerpt import excerpt
from tasak_rest.operations import Operation, named_operations, selected
from tasak_rest.options import Options
from tasak_rest.references import Reader

# What HTTP promises of its methods (RFC 9110, 9.2), in MCP's words.
HINTS: Mapping[str, Mapping[str, bool]] = {
    "GET": {"readOnlyHint": True},
    "HEAD": {"readOnlyHint": True},
    "OPTIONS": {"readOnlyHint": True},
    "TRACE": {"readOnlyHint": True},
    "PUT": {"readOnlyHint": False, "idempotentHint": True},
    "DELETE": {"readOnlyHint": False, "idempotentHint": True, "destructiveHint": True},
}

# A message quotes what the caller wrote, which may be a whole document.
QUOTED = 300


class Tool:
    """One operation that can be called."""

    def __init__(self, name: str, operation: Operation, route: HTTPRoute, director: RequestDirector) -> None:
        schema = {**route.flat_param_schema, "additionalProperties": False}
        self.place = operation.place
        self.listed = {
            "name": name,
            **({"title": operation.summary} if operation.summary else {}),
            "description": operation.description,
            "inputSchema": schema,
            "annotations": dict(HINTS.get(operation.method, {"readOnlyHint": False})),
        }
        """As `tools/list` has it."""
        self._route = route
        self._director = director
        # A registry of our own: the library's would fetch what `$ref` names from the network.
        self._validator = Draft202012Validator(schema, registry=Registry())

    def misfit(self, arguments: Mapping[str, Any]) -> str | None:
        """What is wrong with the arguments, if anything is."""
        try:
            problem = best_match(self._validator.iter_errors(dict(arguments)))
        except Exception:  # noqa: BLE001 - a wrong schema fails in any way; then the service has the last word
            return None
        if problem is None:
            return None
        path = ".".join(str(part) for part in problem.absolute_path)
        return f"{path}: {problem.message[:QUOTED]}" if path else problem.message[:QUOTED]

    def request(self, arguments: Mapping[str, Any], base: httpx2.URL) -> httpx2.Request:
        """The request that `arguments`, which fit, stand for.

        Raises:
            ValueError, TypeError: there is none, as for a path of dots.
        """
        return self._director.build(self._route, dict(arguments), str(base))


def tools_of(description: Description, options: Options, log: logging.Logger) -> dict[str, Tool]:
    """The tools of the operations that the user wants, by name. Work for a thread: a large document takes seconds.

    Raises:
        ConnectFailed: there are none, or one of them is described wrongly.
    """
    reader = Reader(description.document)
    operations = selected(named_operations(reader), include=options.include, exclude=options.exclude)
    document = excerpt(reader, operations.values(), given=options.headers)
    routes = {f"{route.method} {route.path}": route for route in converted(document)}
    director = RequestDirector(SchemaPath.from_dict(document))
    tools = {
        name: Tool(name, operation, routes[operation.place], director)
        for name, operation in operations.items()
        if is_whole(routes.get(operation.place))
    }
    for name in operations.keys() - tools.keys():
        log.warning("%s is left out: FastMCP cannot convert it", operations[name].place)
    if not tools:
        raise ConnectFailed("FastMCP can convert none of the operations", fix="the log says why")
    return tools


def converted(document: dict[str, Any]) -> list[HTTPRoute]:
    try:
        return parse_openapi_to_http_routes(document)
    except (ValueError, RecursionError) as problem:
        raise ConnectFailed(
            f"the description is not in order: {reason(problem)}", fix="mend it, or name the operation in `exclude`"
        ) from problem


def is_whole(route: HTTPRoute | None) -> bool:
    """FastMCP logs what it cannot convert, and goes on with less."""
    return route is not None and (bool(route.parameter_map) or not (route.parameters or route.request_body))


def reason(problem: Exception) -> str:
    if isinstance(cause := problem.__cause__, ValidationError):
        first = cause.errors()[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    return str(problem)[:QUOTED]
