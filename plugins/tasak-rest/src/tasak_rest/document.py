"""Reads the description of a service: from a file or over HTTP, JSON or YAML, OpenAPI 3 or refused with the reason."""

import asyncio
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import yaml
from tasak.plugin import ConnectFailed

from tasak_rest.options import Options
from tasak_rest.service import Service, as_url, bare, place

try:
    from yaml import CSafeLoader as SafeLoader
except ImportError:  # PyYAML without libyaml: slower, the same answers
    from yaml import SafeLoader  # type: ignore[assignment]  # the same interface

# Larger than any that is published: GitHub's has 12 MB.
LARGEST = 16 << 20

# What a plain scalar is in YAML 1.2 (10.3.2, core schema), less the octal and hexadecimal numbers.
CORE_SCHEMA = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9]*)", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("merge", "<<", ["<"]),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """An OpenAPI 3 document, and where it came from."""

    document: dict[str, Any]
    source: str
    """How messages call it."""
    url: httpx2.URL | None
    """None where it came from a file."""

    @property
    def info(self) -> dict[str, str]:
        """What the service calls itself."""
        said = self.document.get("info")
        info = said if isinstance(said, dict) else {}
        return {"name": str(info.get("title") or "a REST service"), "version": str(info.get("version", ""))}

    @property
    def server(self) -> str:
        """The first server's URL, perhaps a relative one; "/", which is the default, where there is none."""
        match self.document.get("servers"):
            case [{"url": str(url), **others}, *_]:
                return filled(url, others.get("variables"))
        return "/"


async def described(options: Options, *, seconds: float) -> Description:
    """The app's description, read once and within bounds; what it refers to elsewhere is not fetched.

    Raises:
        ConnectFailed: it is not there, or is no OpenAPI 3.
    """
    if isinstance(options.openapi, Path):
        url, source = None, str(options.openapi)
        text = await asyncio.to_thread(read_file, options.openapi)
    else:
        url = as_url(options.openapi, "openapi")
        source = str(bare(url))
        text = await fetch(url, options, seconds)
    document = await asyncio.to_thread(parse, text, source)
    return Description(document=document, source=source, url=url)


def base_url(description: Description, options: Options) -> httpx2.URL:
    """Where the service is: what its paths begin with.

    Raises:
        ConnectFailed: nobody says it; or somebody else than the config names the host that would get its headers.
    """
    return found_base(description, options).copy_with(query=None, fragment=None)


def found_base(description: Description, options: Options) -> httpx2.URL:
    if options.base_url:
        return as_url(options.base_url, "base_url")
    what = f"the first server in {description.source}"
    base = as_url(description.server, what, against=description.url, fix="write base_url")
    if description.url is None:
        return base
    if options.headers and base.origin != description.url.origin:
        raise ConnectFailed(
            f"{description.source} names another host, {base.host}, which would get the headers of the config",
            fix=f"write base_url: {base}, if they are meant for it",
        )
    return base


def read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST + 1)
    except OSError as problem:
        raise ConnectFailed(f"the description cannot be read: {problem}", fix="mend `openapi`") from problem
    if len(text) > LARGEST:
        raise ConnectFailed(f"{path} is larger than {LARGEST >> 20} MiB")
    return text


async def fetch(url: httpx2.URL, options: Options, seconds: float) -> bytes:
    """The config's headers go with it only where the config names that host as the service's, too."""
    is_the_service = options.base_url is not None and as_url(options.base_url, "base_url").origin == url.origin
    source = await Service.open(url, options, headers=options.headers if is_the_service else {})
    request = source.request("GET", url)
    try:
        answer = await source.send(request, seconds=seconds, largest=LARGEST)
    finally:
        await source.aclose()
    if not answer.response.is_success:
        hint = "" if is_the_service or not options.headers else "; headers are sent only to the host of base_url"
        raise ConnectFailed(f"the description cannot be had: {place(request)} answered {answer.status}{hint}")
    return answer.body


def parse(text: bytes, source: str) -> dict[str, Any]:
    """
    Raises:
        ConnectFailed: `text` is no OpenAPI 3 document.
    """
    try:
        value = as_value(text.decode("utf-8-sig"))
    except (ValueError, RecursionError, yaml.YAMLError) as problem:
        reason = " ".join(str(problem).split())[:300]
        raise ConnectFailed(f"{source} is neither JSON nor YAML: {reason}", fix="mend `openapi`") from problem
    match value:
        case {"openapi": str(version)} if re.match(r"3\.\d", version):
            return dict(value)
        case {"openapi": version}:
            raise ConnectFailed(f"{source} is written in OpenAPI {version}; it has to be OpenAPI 3")
        case {"swagger": version}:
            raise ConnectFailed(
                f"{source} is written in Swagger {version}; it has to be OpenAPI 3",
                fix="convert it, for example with `npx swagger2openapi`",
            )
    raise ConnectFailed(f"{source} is no OpenAPI 3 document: it has no `openapi: 3…`", fix="mend `openapi`")


def as_value(text: str) -> Any:
    if text.lstrip()[:1] == "{":
        return json.loads(text)
    return as_json(yaml.load(text, CoreLoader))  # noqa: S506 - it is a SafeLoader


class CoreLoader(SafeLoader):
    """YAML 1.2's core schema, which OpenAPI asks for: `no` is a word there, and a date is text."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - the class's own, filled below


for kind, pattern, first in CORE_SCHEMA:
    CoreLoader.add_implicit_resolver(f"tag:yaml.org,2002:{kind}", re.compile(f"^(?:{pattern})$"), first)


def as_json(value: Any) -> Any:
    """The same with strings for keys, as JSON has them, and every alias written out: a bounded number of times.

    Raises:
        ValueError: there is no end to them.
    """
    pieces, size = [], 0
    for piece in json.JSONEncoder(default=str).iterencode(value):
        size += len(piece)
        if size > LARGEST:
            raise ValueError(f"with its aliases written out it is larger than {LARGEST >> 20} MiB")
        pieces.append(piece)
    return json.loads("".join(pieces))


def filled(url: str, variables: Any) -> str:
    """A server's URL with the defaults of its variables (OpenAPI 3.1, 4.8.6)."""
    for name, variable in (variables if isinstance(variables, dict) else {}).items():
        default = variable.get("default", "") if isinstance(variable, dict) else ""
        url = url.replace(f"{{{name}}}", str(default))
    return url
