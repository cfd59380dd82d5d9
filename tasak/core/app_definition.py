"""What the config says about one app, checked as far as it can be without its transport and its caller."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, NoReturn, get_args

from tasak.core.era import Spoken
from tasak.core.nearest import nearest
from tasak.core.settings import KNOBS, Value
from tasak.errors import BadConfig

OnToolChange = Literal["warn", "block", "ignore"]
"""What happens where a tool is not what it was."""

TRANSPORTS = {"local": "stdio", "streamable-http": "http", "streamableHttp": "http"}
"""Names that other clients use, and ours."""

COMMON_KEYS = frozenset(
    {"transport", "type", "protocol", "cwd", "description", "disabled", "allow", "deny", "tools", "trusted"}
    | {"on_tool_change"}
    | {knob.name for knob in KNOBS}
)

FOREIGN_KEYS = {
    "alwaysAllow": None,
    "autoApprove": None,
    "comment": None,
    "disabledTools": "write `deny:`",
    "enabled": "write `disabled: true` to turn the app off",
    "envFile": "the file is not read: write its variables under `env:`",
    "gallery": None,
    "icon": None,
    "iconPath": None,
    "note": None,
    "oauth": None,
    "startup_timeout_sec": "write `init_timeout:`",
    "timeout": "write `call_timeout:`, in seconds",
    "tool_timeout_sec": "write `call_timeout:`",
    "trust": None,
}
"""Keys that other clients of MCP know, and what to write here instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRule:
    """What the user says about one tool. `read_only` is None where the tool's own word counts."""

    retry: Literal["safe", "never"] = "never"
    read_only: bool | None = None


RULES = tuple(rule.name for rule in fields(ToolRule))


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonKeys:
    """The keys that every app may have, whatever its transport."""

    description: str | None
    disabled: bool
    cwd: str | None
    protocol: Spoken
    limits: Mapping[str, Value]
    allow: tuple[str, ...] | None
    """Globs; None allows every tool, an empty tuple none."""
    deny: tuple[str, ...]
    tools: Mapping[str, ToolRule]
    on_tool_change: OnToolChange
    trusted: bool
    """What its server says of its tools is believed."""


def transport_of(raw: Mapping[str, Any], where: str) -> str:
    """The transport's name, said outright or implied.

    Raises:
        BadConfig: it is not said, or said twice.
    """
    if "transport" in raw and "type" in raw:
        raise BadConfig(f"{where}: 'transport' and 'type' mean the same", fix="remove one of them")
    named = raw.get("transport", raw.get("type"))
    if isinstance(named, str):
        return TRANSPORTS.get(named, named)
    if "transport" in raw or "type" in raw:
        _refuse(where, "transport" if "transport" in raw else "type", "the name of a transport")
    implied = [name for key, name in (("command", "stdio"), ("url", "http")) if key in raw]
    if len(implied) == 1:
        return implied[0]
    if implied:
        raise BadConfig(f"{where}: it has both 'command' and 'url'", fix="remove one, or say `transport:`")
    fix = _meant(raw) or "write `command:`, a program to start, or `url:`, where a server is; or say `transport:`"
    raise BadConfig(f"{where}: it has neither 'command' nor 'url'", fix=fix)


def check_keys(raw: Mapping[str, Any], options: Iterable[str], where: str) -> str | None:
    """Refuse the keys that are neither common nor among the transport's `options`.

    Returns what to tell the user about keys of other clients, which count for nothing.

    Raises:
        BadConfig: a key is unknown.
    """
    known = COMMON_KEYS.union(options)
    foreign = [key for key in raw if key not in known]
    if unknown := [key for key in foreign if key not in FOREIGN_KEYS and not key.startswith(("_", "x-"))]:
        names = ", ".join(repr(key) for key in unknown)
        raise BadConfig(f"{where}: unknown key {names}", fix=_did_you_mean(unknown[0], known))
    if "tools" not in options:
        check_rules(raw.get("tools"), where)
    if not foreign:
        return None
    told = (f"{key!r} ({advice})" if (advice := FOREIGN_KEYS.get(key)) else repr(key) for key in foreign)
    return f"{where}: ignored, because only other clients know it: {', '.join(told)}"


def check_rules(rules: Any, where: str) -> None:
    """Refuse what a tool's rules do not have; where the transport has a say in `tools`, its schema knows more."""
    for tool, rule in rules.items() if isinstance(rules, dict) else ():
        for key in rule if isinstance(rule, dict) else ():
            if key not in RULES:
                raise BadConfig(f"{where}: tools: {tool!r}: unknown key {key!r}", fix=_did_you_mean(key, RULES))


def common_keys(raw: Mapping[str, Any], where: str) -> CommonKeys:
    """The keys that every app may have, checked.

    Raises:
        BadConfig: one of them is not what it should be.
    """
    allow = _globs(raw, "allow", where)
    return CommonKeys(
        description=_text(raw, "description", where),
        disabled=bool(_flag(raw, "disabled", where)),
        cwd=_text(raw, "cwd", where),
        protocol=_protocol(raw, where),
        limits=_limits(raw, where),
        allow=allow,
        deny=_globs(raw, "deny", where) or (),
        tools=_tools(raw, where),
        on_tool_change=_on_tool_change(raw, where),
        trusted=bool(_flag(raw, "trusted", where)),
    )


def _limits(raw: Mapping[str, Any], where: str) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for knob in KNOBS:
        if knob.name in raw:
            try:
                found[knob.name] = knob.measure.read(raw[knob.name])
            except ValueError:
                _refuse(where, knob.name, knob.measure.expected)
    return found


def _text(raw: Mapping[str, Any], key: str, where: str) -> str | None:
    value = raw.get(key)
    if value is not None and not isinstance(value, str):
        _refuse(where, key, "a string")
    return value


def _flag(raw: Mapping[str, Any], key: str, where: str) -> bool | None:
    value = raw.get(key)
    if key in raw and not isinstance(value, bool):
        _refuse(where, key, "true or false")
    return value


def _protocol(raw: Mapping[str, Any], where: str) -> Spoken:
    value: Spoken = raw.get("protocol", "auto")
    if value not in get_args(Spoken):
        _refuse(where, "protocol", ", ".join(get_args(Spoken)))
    return value


def _on_tool_change(raw: Mapping[str, Any], where: str) -> OnToolChange:
    value: OnToolChange = raw.get("on_tool_change", "warn")
    if value not in get_args(OnToolChange):
        _refuse(where, "on_tool_change", ", ".join(get_args(OnToolChange)))
    return value


def _globs(raw: Mapping[str, Any], key: str, where: str) -> tuple[str, ...] | None:
    value = raw.get(key)
    # Nothing after the colon could mean every tool or none.
    if key in raw and not (isinstance(value, list) and all(isinstance(each, str) for each in value)):
        _refuse(where, key, "a list of tool names or globs")
    return None if value is None else tuple(value)


def _tools(raw: Mapping[str, Any], where: str) -> dict[str, ToolRule]:
    value = raw.get("tools", {})
    if not isinstance(value, dict):
        _refuse(where, "tools", "a mapping from a tool's name to its rules")
    return {tool: _rule(rule, f"{where}: tools: {tool!r}") for tool, rule in value.items()}


def _rule(raw: object, where: str) -> ToolRule:
    if not isinstance(raw, dict):
        raise BadConfig(f"{where}: it has to be a mapping, such as {{retry: safe}}")
    retry = raw.get("retry", "never")
    if retry not in ("safe", "never"):
        _refuse(where, "retry", "safe or never")
    return ToolRule(retry=retry, read_only=_flag(raw, "read_only", where))


def _refuse(where: str, key: str, expected: str) -> NoReturn:
    raise BadConfig(f"{where}: {key!r} is not what it should be: {expected}")


def _did_you_mean(name: str, known: Iterable[str]) -> str | None:
    close = nearest(name, sorted(known))
    return f"did you mean {close!r}?" if close else None


def _meant(raw: Mapping[str, Any]) -> str | None:
    unknown = [key for key in raw if key not in COMMON_KEYS]
    return next((fix for key in unknown if (fix := _did_you_mean(key, ["command", "url", "transport"]))), None)
