"""Where mcp-remote keeps the user's sign-in to a server: files that it names by a hash of how it was called."""

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

from tasak.errors import BadConfig

FOLDER = ".mcp-auth"

# The layout of its store, whatever its version; older ones than that had a folder for each version.
LAYOUT = "mcp-remote-v1"

# These are in the hash, too, in a form that only mcp-remote knows.
OPAQUE = ("--header-file", "--client-metadata-url", "--token-endpoint")


@dataclass(frozen=True, slots=True)
class Store:
    """The files of one sign-in."""

    folder: Path
    key: str

    @classmethod
    def of(cls, arguments: Sequence[str], environment: Mapping[str, str]) -> Self:
        """The store of an mcp-remote that is called with these arguments, in this environment.

        Raises:
            BadConfig: only mcp-remote can tell.
        """
        base = environment.get("MCP_REMOTE_CONFIG_DIR") or os.path.join(environment.get("HOME", "~"), FOLDER)
        return cls(Path(os.path.sep, os.path.expanduser(base), LAYOUT), key_of(arguments))

    def status(self) -> dict[str, Any]:
        """Whether there is a token that is good, or can be made good again; its time in seconds."""
        tokens = self._tokens() or {}
        ends = tokens.get("expires_at")  # in milliseconds since 1970
        left = max(0, round(ends / 1000 - time.time())) if isinstance(ends, int | float) else None
        can_refresh = bool(tokens.get("refresh_token"))
        return {
            "signed_in": bool(tokens) and (can_refresh or left != 0),
            "scopes": str(tokens.get("scope") or "").split(),
            "expires_in": left,
            "can_refresh": can_refresh,
            "file": str(self._tokens_file) if tokens else None,
        }

    def forget(self) -> bool:
        """Remove the files; whether there were tokens among them."""
        had_tokens = self._tokens_file.exists()
        for file in self.folder.glob(f"{self.key}_*"):
            file.unlink(missing_ok=True)
        return had_tokens

    @property
    def _tokens_file(self) -> Path:
        return self.folder / f"{self.key}_tokens.json"

    def _tokens(self) -> dict[str, Any] | None:
        try:
            found = json.loads(self._tokens_file.read_bytes())
        except (OSError, ValueError):  # which mcp-remote takes for none, too
            return None
        return found if isinstance(found, dict) else None


def key_of(arguments: Sequence[str]) -> str:
    """The hash of mcp-remote 0.15.1 (`getServerUrlHash`): MD5 over the URL and whatever else tells sign-ins apart.

    The headers are in it as they were written, before a `${…}` is filled in.

    Raises:
        BadConfig: only mcp-remote can tell.
    """
    if opaque := [word for word in arguments if word in OPAQUE]:
        raise BadConfig(
            f"because of {opaque[0]}, only mcp-remote knows where it keeps the sign-in", fix=f"look into ~/{FOLDER}"
        )
    parameters, headers = pairs(arguments, "--authorize-param", "="), pairs(arguments, "--header", ":")
    parts = [arguments[0], resource_of(arguments), as_json(parameters), as_json(headers)]
    return hashlib.md5("|".join(filter(None, parts)).encode(), usedforsecurity=False).hexdigest()


def resource_of(arguments: Sequence[str]) -> str:
    named = [] if "--disable-resource-parameter" in arguments else values(arguments, "--resource")
    return named[0].strip() if named else ""


def values(arguments: Sequence[str], flag: str) -> list[str]:
    return [value for name, value in pairwise(arguments) if name == flag]


def pairs(arguments: Sequence[str], flag: str, separator: str) -> dict[str, str]:
    """Names and values; the last value of a name counts."""
    split = (each.partition(separator) for each in values(arguments, flag))
    return {name.strip(): value for name, _, value in split}


def as_json(mapping: Mapping[str, str]) -> str:
    """As `JSON.stringify` writes it; an empty one is nothing at all."""
    return json.dumps(mapping, sort_keys=True, separators=(",", ":"), ensure_ascii=False) if mapping else ""
