"""What the config says of an app: its JSON Schema, and the same parsed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

# A host that drops packets says nothing: time for the third repetition of a lost SYN, and for the keys after it.
CONNECT_TIMEOUT = 15.0

# The daemon's own directory means nothing to the user.
PATH = {"type": "string", "pattern": "^(/|~/)"}

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "host": {
            "description": "Name or address of the machine, or an alias of ~/.ssh/config; neither user nor port in it",
            "type": "string",
            "pattern": r"^[^-@\s][^@\s]*$",
        },
        "port": {"description": "Port of its SSH server", "type": "integer", "minimum": 1, "maximum": 65535},
        "user": {"description": "Who logs in there", "type": "string", "minLength": 1},
        "command": {
            "description": "What to run there: a string goes to the login shell as it is; a list of words is quoted,"
            " so that no shell looks into them",
            "type": ["string", "array"],
            "items": {"type": ["string", "number"]},
            "minItems": 1,
            "minLength": 1,
        },
        "directory": {
            "description": "Where to run it; a path that does not begin with / begins in the home directory there",
            "type": "string",
            "minLength": 1,
        },
        "env": {
            "description": "Environment variables for it, sent through its stdin: they are in no command line",
            "type": "object",
            "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
            "additionalProperties": {"type": ["string", "number"]},
        },
        "identity_file": {
            "description": "Private key, or a list of them: no others are offered, neither from files nor by the agent",
            "anyOf": [PATH, {"type": "array", "items": PATH, "minItems": 1}],
        },
        "known_hosts": {"description": "File with the host keys to trust, instead of those of ~/.ssh/config", **PATH},
        "config": {"description": "Configuration file of OpenSSH, instead of ~/.ssh/config", **PATH},
        "agent": {
            "description": "Whether ssh-agent is asked for keys, or the path of its socket: ${SSH_AUTH_SOCK} is the"
            " caller's agent, true the daemon's",
            "type": ["boolean", "string"],
            "minLength": 1,
        },
        "connect_timeout": {
            "description": f"Seconds until a host that does not answer is given up; ConnectTimeout of ~/.ssh/config, or"
            f" {CONNECT_TIMEOUT:g}",
            "type": "number",
            "exclusiveMinimum": 0,
        },
    },
    "required": ["host", "command"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """One app's options. None stands for what ~/.ssh/config or OpenSSH's own defaults say."""

    host: str
    port: int | None
    user: str | None
    command: str | tuple[str, ...]
    directory: str | None
    env: Mapping[str, str]
    identity_files: tuple[str, ...]
    known_hosts: str | None
    config: str | None
    agent: bool | str
    connect_timeout: float | None

    @classmethod
    def parse(cls, options: Mapping[str, Any]) -> Self:
        """From options that fit the schema."""
        command, identities = options["command"], options.get("identity_file", ())
        return cls(
            host=options["host"],
            port=options.get("port"),
            user=options.get("user"),
            command=command if isinstance(command, str) else tuple(str(word) for word in command),
            directory=options.get("directory"),
            env={name: str(value) for name, value in options.get("env", {}).items()},
            identity_files=(identities,) if isinstance(identities, str) else tuple(identities),
            known_hosts=options.get("known_hosts"),
            config=options.get("config"),
            agent=options.get("agent", True),
            connect_timeout=options.get("connect_timeout"),
        )
