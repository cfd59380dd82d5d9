"""`${…}` in an app's definition, filled in from where its values are."""

import re
from collections.abc import Callable
from typing import Any

from tasak.core.sources import Sources
from tasak.errors import BadConfig
from tasak.secret import Secret

_DOLLARS = re.compile(r"\$\$|\$\{([^}]*)(\}?)")
_TEMPLATE = re.compile(r"\$\{(?:args|steps)\..*\}", re.DOTALL)
_FORM = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)
_ELSEWHERE = re.compile(r"(file|keyring):([^$\n]+)")


def fill(text: str, sources: Sources, where: str) -> str:
    """`text` with its variables filled in, in one pass: what a value holds is not looked into again.

    `${VAR}` is a variable of the environment, `${VAR:-x}` has a default for one that is unset or empty,
    `${file:PATH}` and `${keyring:service/name}` are secrets that are kept there, `$$` is a dollar, and a dollar before
    anything else stays. What has a value in it is a `Secret`. `where` names the app for the error's reader.

    Raises:
        BadConfig: a value is not there or is no text, or a `${` is not one of these forms.
        Unread: an entry of the keyring has to be read first.
    """
    return hidden(text, _DOLLARS.sub(lambda found: _part(found, sources, where), text))


def fill_template(text: str, sources: Sources, where: str) -> str:
    """The same for a text that is filled in a second time, at the call: `${args.…}`, `${steps.…}` and `$$` stay.

    What a value holds is escaped, so that it is not looked into then, either.
    """

    def part(found: re.Match[str]) -> str:
        if found[0] == "$$" or _TEMPLATE.fullmatch(found[0]):
            return found[0]
        return _part(found, sources, where).replace("$", "$$")

    return hidden(text, _DOLLARS.sub(part, text))


Fill = Callable[[str, Sources, str], str]


def fill_all(value: Any, sources: Sources, where: str, *, fill: Fill = fill) -> Any:
    """A copy of `value`, each string in it filled in; the keys of mappings stay as they are.

    Raises:
        BadConfig, Unread: as for `fill`.
    """
    match value:
        case str():
            return fill(value, sources, where)
        case list():
            return [fill_all(item, sources, where, fill=fill) for item in value]
        case dict():
            return {key: fill_all(item, sources, where, fill=fill) for key, item in value.items()}
    return value


def hidden(written: str, filled: str) -> str:
    """The text, as a secret if it is not as it was written."""
    return filled if filled == written else Secret(filled)


def _part(found: re.Match[str], sources: Sources, where: str) -> str:
    if found[0] == "$$":
        return "$"
    if found[2] and (elsewhere := _ELSEWHERE.fullmatch(found[1])):
        kind, name = elsewhere.groups()
        return sources.file(name, where) if kind == "file" else sources.entry(name, where)
    form = _FORM.fullmatch(found[1])
    if not found[2] or form is None or "${" in (form[2] or ""):
        raise BadConfig(
            f"{where}: {found[0][:40]!r} is no variable",
            fix="write ${NAME}, or ${NAME:-default} without another ${ in the default, or ${file:PATH}, "
            "or ${keyring:service/name}, or $$ for a dollar",
        )
    name, default = form[1], form[2]
    value = sources.variable(name, where)
    if default is not None and not value:
        return default.replace("$$", "$")
    if value is None:
        raise BadConfig(
            f"{where}: the environment variable {name} is not set", fix=f"set it, or write ${{{name}:-default}}"
        )
    return value
