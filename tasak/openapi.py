"""What `GET /openapi.json` says: made of the routes as they are, and of the fields that bodies are read by."""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from aiohttp import web

from tasak import __version__, bodies
from tasak.core.call_record import CALL_ID
from tasak.core.config import NAME
from tasak.errors import Outcome, Retry, error_types
from tasak.wire import JSON, LONGEST_DRAIN, LONGEST_TIMEOUT

Schema = Mapping[str, Any]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

OPENAPI = "3.1.0"

TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
SECONDS: Schema = {"type": "number", "minimum": 0}
FLAG: Schema = {"type": "boolean"}
TEXTS: Schema = {"type": "array", "items": TEXT}


def object_of(properties: Mapping[str, Schema], *, more: bool = False, optional: tuple[str, ...] = ()) -> Schema:
    """Every property is there, but for the `optional` ones; others only if there may be `more`."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": [name for name in properties if name not in optional],
        "additionalProperties": more,
    }


def list_of(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


# What each reader of a body's field takes.
READERS: Mapping[bodies.Field, Schema] = {
    bodies.text: {"type": "string", "minLength": 1},
    bodies.folder: {"type": "string", "pattern": "^/"},
    bodies.environment: {"type": "object", "additionalProperties": TEXT},
    bodies.words: TEXTS,
    bodies.arguments: {"type": "object"},
    bodies.seconds: {"type": "number", "exclusiveMinimum": 0, "maximum": LONGEST_TIMEOUT},
    bodies.truth: FLAG,
}


def fields(known: Mapping[str, bodies.Field]) -> Schema:
    return object_of({name: READERS[read] for name, read in known.items()}, optional=tuple(known))


CALL: Schema = {
    **fields(bodies.CALL_FIELDS),
    "required": ["tool"],
    "oneOf": [{"required": ["arguments"]}, {"required": ["argv"]}],
}
LIST: Schema = fields(bodies.LIST_FIELDS)

ERROR: Schema = object_of({
    "error": object_of({
        "code": {"enum": sorted(kind.code for kind in error_types())},
        "message": TEXT,
        "fix": or_null(TEXT),
        "outcome": {"enum": list(get_args(Outcome))},
        "retry": {"enum": list(get_args(Retry))},
    })
})  # fmt: skip

CONNECTION: Schema = object_of({"app": TEXT, "transport": TEXT, "state": TEXT, "last_error": or_null(TEXT)}, more=True)

# All that is said over TCP to who has no token.
ALIVE: Schema = object_of({"status": {"enum": ["ok"]}})
HEALTH: Schema = object_of(
    {
        "status": {"enum": ["ok", "draining"]},
        "version": TEXT,
        "wire_version": COUNT,
        "instance": TEXT,
        "pid": COUNT,
        "uptime": SECONDS,
        "draining": FLAG,
        "connections": COUNT,
        "notices": TEXTS,
        "failing": list_of(CONNECTION),
        "lost": list_of(CONNECTION),
        "transports": {"type": "object", "additionalProperties": TEXT},
        "tcp": or_null(TEXT),
        "tcp_problem": or_null(TEXT),
    }
)
APPS: Schema = object_of({
    "apps": list_of(object_of({
        "name": TEXT,
        "transport": or_null(TEXT),
        "state": TEXT,
        "file": or_null(TEXT),
        "description": or_null(TEXT),
        "error": or_null(TEXT),
    })),
    "notices": TEXTS,
})  # fmt: skip
PING: Schema = object_of({"app": TEXT, "ok": FLAG, "connections": list_of(CONNECTION)})
TOOLS: Schema = object_of(
    {
        "app": TEXT,
        "tools": list_of({"type": "object"}),
        "cached": FLAG,
        "age": SECONDS,
        "ttl": or_null(SECONDS),
        "notices": list_of(TEXT),
        "blocked": list_of(TEXT),
    }
)
OUTCOME: Schema = object_of({
    "call_id": TEXT,
    "app": TEXT,
    "tool": TEXT,
    "state": {"enum": ["running", "ended"]},
    "outcome": {"enum": [*get_args(Outcome), None]},
    "exit": or_null(COUNT),
    "error": or_null({"type": "object"}),
    "age": SECONDS,
    "result": or_null(TEXT),
})  # fmt: skip
POOL: Schema = object_of({"connections": list_of(CONNECTION)})
CLOSED: Schema = object_of({"closed": TEXT, "app": TEXT})
METRICS: Schema = {"type": "object", "additionalProperties": list_of(object_of({"labels": {}, "value": {}}))}
STOPPED: Schema = object_of({"stopped": FLAG, "survivors": list_of(COUNT)})
RESULT: Schema = {"type": "object"}

# What stands in a path.
NAMES: Mapping[str, Schema] = {
    "app": {"type": "string", "pattern": f"^{NAME.pattern}$"},
    "call_id": {"type": "string", "pattern": f"^{CALL_ID.pattern}$"},
    "id": {"type": "string", "pattern": "^[0-9a-f]+$"},
}
WHERE: Mapping[str, Schema] = {"cwd": {"type": "string", "pattern": "^/"}, "config": {"type": "string", "minLength": 1}}
DRAIN_FOR: Schema = {"type": "number", "minimum": 0, "maximum": LONGEST_DRAIN}


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One of the API's: `answers` are what it says where nothing failed, by media type; `statuses`, how."""

    method: str
    path: str
    handler: Handler
    summary: str
    answers: Mapping[str, Schema]
    statuses: tuple[int, ...] = (200,)
    query: Mapping[str, Schema] = field(default_factory=dict)
    body: Schema | None = None
    needs_body: bool = False
    needs_token: bool = True

    def as_openapi(self) -> dict[str, Any]:
        content = {kind: {"schema": schema} for kind, schema in self.answers.items()}
        found: dict[str, Any] = {
            "summary": self.summary,
            "operationId": self.handler.__name__,
            "parameters": [
                *(parameter(name, "path", NAMES[name]) for name in re.findall(r"{(\w+)}", self.path)),
                *(parameter(name, "query", schema) for name, schema in self.query.items()),
            ],
            "responses": {
                **{str(status): {"description": "what was asked for", "content": content} for status in self.statuses},
                "default": {"description": "what went wrong", "content": {JSON: {"schema": ERROR}}},
            },
        }
        if not self.needs_token:
            found["security"] = [{}, {"token": []}]
        if self.body is not None:
            found["requestBody"] = {"required": self.needs_body, "content": {JSON: {"schema": self.body}}}
        return found


def parameter(name: str, where: str, schema: Schema) -> dict[str, Any]:
    return {"name": name, "in": where, "required": where == "path", "schema": schema}


def document(routes: tuple[Route, ...]) -> dict[str, Any]:
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = route.as_openapi()
    return {
        "openapi": OPENAPI,
        "info": {
            "title": "TASAK",
            "version": __version__,
            "description": "The daemon of one user: apps, their tools, and the sessions behind them.",
        },
        "servers": [{"url": "http://127.0.0.1:8765"}],
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{"token": []}],
        "paths": paths,
    }
