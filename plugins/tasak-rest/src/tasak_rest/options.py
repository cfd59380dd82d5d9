"""What the config says of an app: its JSON Schema, and the same parsed."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tasak.plugin import AppConfig, BadConfig

# A service on the other side of the world, over a line that loses packets.
TIMEOUT = 10.0

HTTP_URL = "^https?://[^/]"

GLOBS = {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1}

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "openapi": {
            "description": "The OpenAPI 3 document, JSON or YAML: a URL, or a path against the app's directory",
            "type": "string",
            "minLength": 1,
        },
        "base_url": {
            "description": "Where the service is; the document's first server unless given",
            "type": "string",
            "pattern": HTTP_URL,
        },
        "headers": {
            "description": "Headers of every request, such as Authorization; they are no parameters of a tool then",
            "type": "object",
            "propertyNames": {"pattern": "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"},
            "additionalProperties": {"type": ["string", "number"]},
        },
        "include": {
            "description": 'Only these operations: globs over names, operation ids and "METHOD /path"',
            **GLOBS,
        },
        "exclude": {"description": "Not these operations; goes before include", **GLOBS},
        "timeout": {
            "description": f"Seconds in which the service has to take a connection, and answer a ping; {TIMEOUT:g}",
            "type": "number",
            "exclusiveMinimum": 0,
        },
        "health": {
            "description": "URL against base_url that answers with success as long as the service is well; without it,"
            " any answer of base_url itself is a sign of life",
            "type": "string",
            "minLength": 1,
        },
        "ca_file": {
            "description": "File of certificates (PEM) to trust beside the system's",
            "type": "string",
            "minLength": 1,
        },
        "proxy": {"description": "URL of an HTTP proxy", "type": "string", "pattern": HTTP_URL},
    },
    "required": ["openapi"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """One app's options. None stands for what the description says, or for nothing."""

    openapi: str | Path
    """A URL, or the path of a file."""
    base_url: str | None
    headers: Mapping[str, str]
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    timeout: float
    health: str | None
    ca_file: Path | None
    proxy: str | None

    @classmethod
    def parse(cls, app: AppConfig) -> Self:
        """From options that fit the schema.

        Raises:
            BadConfig: a header cannot be sent, or a path has nothing to begin from.
        """
        options = app.options
        where, ca_file = options["openapi"], options.get("ca_file")
        return cls(
            openapi=where if re.match(HTTP_URL, where) else path_of(where, app),
            base_url=options.get("base_url"),
            headers={name: header_value(name, value) for name, value in options.get("headers", {}).items()},
            include=tuple(options.get("include", ())),
            exclude=tuple(options.get("exclude", ())),
            timeout=options.get("timeout", TIMEOUT),
            health=options.get("health"),
            ca_file=path_of(ca_file, app) if ca_file else None,
            proxy=options.get("proxy"),
        )


def path_of(path: str, app: AppConfig) -> Path:
    expanded = Path(path).expanduser()
    if not expanded.is_absolute() and app.directory is None:
        raise BadConfig(f"{app.name}: {path} begins from no directory", fix="write the whole path")
    return (app.directory or Path("/")) / expanded


def header_value(name: str, value: str | float) -> str:
    """The value is not shown: it may be a secret."""
    text = str(value).strip()
    if not text.isascii() or not text.isprintable():
        raise BadConfig(
            f"headers: {name}: its value holds what no header can hold, such as a line break",
            fix="look at the variable that it comes from",
        )
    return text
