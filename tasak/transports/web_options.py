"""What `http` and `sse` take in the config."""

from typing import Any

from tasak.auth.options import AUTH_SCHEMA

# RFC 9110, 5.6.2: a token. A value of a header is one line.
HEADER_NAME = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"
HEADER_VALUE = r"^[^\r\n\u0000]*$"

WEB_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "url": {
            "description": "Where the server is: http://… or https://…",
            "type": "string",
            "pattern": "^https?://[^/]",
        },
        "headers": {
            "description": "Headers of every request, such as `Authorization: Bearer ${TOKEN}`",
            "type": "object",
            "propertyNames": {"pattern": HEADER_NAME},
            "additionalProperties": {"type": ["string", "number"], "pattern": HEADER_VALUE},
        },
        "auth": AUTH_SCHEMA,
        "proxy": {
            "description": "The HTTP proxy to go through, http://… or https://…; the environment's do not count",
            "type": "string",
            "pattern": "^https?://[^/]",
        },
        "ca_file": {
            "description": "A file of certificates (PEM) to trust beside the system's; absolute, or from ~/",
            "type": "string",
            "minLength": 1,
        },
    },
    "required": ["url"],
    "additionalProperties": False,
}
