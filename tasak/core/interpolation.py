"""`${…}` in an app's definition, filled in from the caller's environment."""

import re
from collections.abc import Mapping
from typing import Any

from tasak.errors import BadConfig

_DOLLARS = re.compile(r"\$\$|\$\{([^}]*)(\}?)")
_FORM = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)


def fill(text: str, env: Mapping[str, str], where: str) -> str:
    """`text` with its variables filled in, in one pass: what a value holds is not looked into again.

    `${VAR}` is the variable, `${VAR:-x}` has a default for one that is unset or empty, `$$` is a dollar, and a
    dollar before anything else stays. `where` names the app for the error's reader.

    Raises:
        BadConfig: a variable is unset or is no text, or a `${` is not one of these forms.
    """
    return _DOLLARS.sub(lambda found: _part(found, env, where), text)


def fill_all(value: Any, env: Mapping[str, str], where: str) -> Any:
    """A copy of `value`, each string in it filled in; the keys of mappings stay as they are.

    Raises:
        BadConfig: as for `fill`.
    """
    match value:
        case str():
            return fill(value, env, where)
        case list():
            return [fill_all(item, env, where) for item in value]
        case dict():
            return {key: fill_all(item, env, where) for key, item in value.items()}
    return value


def _part(found: re.Match[str], env: Mapping[str, str], where: str) -> str:
    if found[0] == "$$":
        return "$"
    form = _FORM.fullmatch(found[1])
    if not found[2] or form is None or "${" in (form[2] or ""):
        raise BadConfig(
            f"{where}: {found[0][:40]!r} is no variable",
            fix="write ${NAME}, or ${NAME:-default} without another ${ in the default, or $$ for a dollar",
        )
    name, default = form[1], form[2]
    value = env.get(name)
    if default is not None and not value:
        return default.replace("$$", "$")
    if value is None:
        raise BadConfig(
            f"{where}: the environment variable {name} is not set", fix=f"set it, or write ${{{name}:-default}}"
        )
    return _checked(value, name, where)


def _checked(value: str, name: str, where: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadConfig(f"{where}: the environment variable {name} is not UTF-8") from None
    if "\0" in value:
        raise BadConfig(f"{where}: the environment variable {name} has a NUL in it")
    return value
