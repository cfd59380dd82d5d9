"""Every knob: what it is called in a file, in an app and in the environment, its unit and its default."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from tasak.core.nearest import nearest
from tasak.errors import BadConfig
from tasak.wire import LOG_LEVEL_VARIABLE, LOG_LEVELS

Value = float | int | None
"""Seconds or a count; None is `never`, or no bound."""

CONFIG_VARIABLE = "TASAK_CONFIG"
SESSION_VARIABLE = "TASAK_SESSION"
HOST_VARIABLE = "TASAK_DAEMON_HOST"
PORT_VARIABLE = "TASAK_DAEMON_PORT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """What a knob's value may be."""

    expected: str
    is_whole: bool = False
    has_zero: bool = False
    has_never: bool = False

    def read(self, value: object) -> Value:
        """`value` as a file gives it.

        Raises:
            ValueError: it is something else than what `expected` says.
        """
        if self.has_never and value == "never":
            return None
        # A bool is an int to Python, and a mistake here.
        if not isinstance(value, int if self.is_whole else int | float) or isinstance(value, bool):
            raise ValueError(self.expected)  # noqa: TRY004 - what the user wrote is wrong, not what we pass
        try:
            amount = value if self.is_whole else float(value)
        except OverflowError:
            raise ValueError(self.expected) from None
        if amount < 0 or (amount == 0 and not self.has_zero) or not amount < math.inf:
            raise ValueError(self.expected)
        return amount

    def read_text(self, text: str) -> Value:
        """`text` as an environment variable gives it.

        Raises:
            ValueError: as for `read`.
        """
        if re.fullmatch(r"[0-9]+", text):
            return self.read(int(text))
        return self.read(float(text) if re.fullmatch(r"[0-9]*\.[0-9]+", text) else text)


SECONDS = Measure(expected="seconds, above 0")
SECONDS_OR_ZERO = Measure(expected="seconds, 0 or more", has_zero=True)
SECONDS_OR_NEVER = Measure(expected="seconds, above 0, or never", has_never=True)
COUNT = Measure(expected="a whole number, 1 or more", is_whole=True)
COUNT_OR_ZERO = Measure(expected="a whole number, 0 or more", is_whole=True, has_zero=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Knob:
    """One number that the user may set. `name` is an app's key and the field of `Limits`."""

    name: str
    measure: Measure
    default: Value
    setting: str
    """Its name under `settings:`."""
    variable: str | None = None
    is_daemons: bool = False
    """The variable counts in the daemon's environment, not in the caller's."""


def knob(name: str, measure: Measure, default: Value, variable: str | None = None) -> Knob:
    return Knob(name=name, measure=measure, default=default, setting=name, variable=variable)


KNOBS = (
    Knob(
        name="idle_ttl",
        measure=SECONDS_OR_NEVER,
        default=300.0,
        setting="conn_ttl",
        variable="TASAK_DAEMON_CONN_TTL",
        is_daemons=True,
    ),
    Knob(
        name="cache_ttl",
        measure=SECONDS_OR_ZERO,
        default=900.0,
        setting="cache_ttl",
        variable="TASAK_DAEMON_CACHE_TTL",
        is_daemons=True,
    ),
    knob("max_age", SECONDS_OR_NEVER, None),
    knob("parallel", COUNT, None),
    # A cold npx download on a slow line runs this out.
    knob("init_timeout", SECONDS, 30.0, "TASAK_MCP_INIT_TIMEOUT"),
    knob("init_attempts", COUNT, 2, "TASAK_MCP_INIT_ATTEMPTS"),
    knob("list_timeout", SECONDS, 15.0, "TASAK_TOOL_LIST_TIMEOUT"),
    knob("call_timeout", SECONDS, 30.0, "TASAK_TOOL_CALL_TIMEOUT"),
    # A tool that reports progress for ever runs this out.
    knob("call_timeout_max", SECONDS, 600.0),
    knob("retries", COUNT_OR_ZERO, 1, "TASAK_TOOL_RETRIES"),
)

# It counts the connections of the whole daemon, and so no app has it.
MAX_CONNECTIONS = knob("max_connections", COUNT, 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The knobs of one app for one caller. Times are in seconds."""

    idle_ttl: float | None
    """From the end of the last call; None never ends a connection for idleness."""
    max_age: float | None
    cache_ttl: float
    parallel: int | None
    init_timeout: float
    """For one attempt to connect."""
    init_attempts: int
    list_timeout: float
    call_timeout: float
    """From the write of the request, and anew from each progress notification."""
    call_timeout_max: float
    """From the write, in any case; a longer `call_timeout` that its caller asks for raises it."""
    retries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonSettings:
    """What the daemon's process itself is told; `port` is None where TCP is off."""

    host: str
    port: int | None
    log_level: str


def limits(*sources: Mapping[str, Value]) -> Limits:
    """What holds, by the names of `KNOBS`: the first source that has a name decides, then the default."""
    chosen: dict[str, Any] = {}
    for each in KNOBS:
        chosen[each.name] = next((source[each.name] for source in sources if each.name in source), each.default)
    chosen["call_timeout_max"] = max(chosen["call_timeout_max"], chosen["call_timeout"])
    return Limits(**chosen)


def require_room(where: str, *sources: Mapping[str, Value]) -> None:
    """See that the bound of a whole call, where a file sets one, is not below that of its silence.

    Raises:
        BadConfig: it is.
    """
    most = next((source["call_timeout_max"] for source in sources if "call_timeout_max" in source), None)
    silent = limits(*({"call_timeout": source["call_timeout"]} for source in sources if "call_timeout" in source))
    if most is not None and most < silent.call_timeout:
        raise BadConfig(
            f"{where}: call_timeout_max, {most:g} s, is below call_timeout, {silent.call_timeout:g} s",
            fix="raise call_timeout_max, or lower call_timeout",
        )


def of_environment(env: Mapping[str, str], *, is_daemons: bool) -> dict[str, Value]:
    """The knobs that the daemon's environment sets, or the caller's. An empty variable counts as unset.

    Raises:
        BadConfig: a variable is not what its knob takes.
    """
    found: dict[str, Value] = {}
    for each in KNOBS:
        if each.is_daemons is is_daemons and each.variable and (text := env.get(each.variable)):
            try:
                found[each.name] = each.measure.read_text(text)
            except ValueError:
                raise malformed(each.variable, text, each.measure.expected) from None
    return found


def of_file(section: Mapping[str, object]) -> dict[str, Value]:
    """The knobs that a file's `settings:` sets.

    Raises:
        BadConfig: an unknown name, or a value that its knob does not take.
    """
    known = {each.setting: each for each in (*KNOBS, MAX_CONNECTIONS)}
    found: dict[str, Value] = {}
    for name, value in section.items():
        if name not in known:
            close = nearest(name, known)
            fix = f"did you mean {close!r}?" if close else f"there are: {', '.join(sorted(known))}"
            raise BadConfig(f"unknown setting {name!r}", fix=fix)
        try:
            found[known[name].name] = known[name].measure.read(value)
        except ValueError as expected:
            raise BadConfig(f"settings: {name!r} is not what it should be: {expected}") from None
    return found


def daemon_settings(env: Mapping[str, str]) -> DaemonSettings:
    """What the daemon's own environment says about its process.

    Raises:
        BadConfig: a variable is malformed, or the host is not this machine alone.
    """
    # What every call would be refused for, and its caller could not mend.
    of_environment(env, is_daemons=True)
    level = env.get(LOG_LEVEL_VARIABLE) or "INFO"
    if level.upper() not in LOG_LEVELS:
        raise malformed(LOG_LEVEL_VARIABLE, level, f"one of {', '.join(LOG_LEVELS)}")
    host = env.get(HOST_VARIABLE) or "127.0.0.1"
    if not is_loopback(host):
        raise malformed(HOST_VARIABLE, host, "a loopback address, such as 127.0.0.1: the API is for this machine alone")
    return DaemonSettings(host=host, port=port_of(env.get(PORT_VARIABLE) or "8765"), log_level=level.upper())


def port_of(text: str) -> int | None:
    if text == "off":
        return None
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 0 < int(text) < 65536:
        raise malformed(PORT_VARIABLE, text, "a port number, or off")
    return int(text)


def is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def malformed(variable: str, text: str, expected: str) -> BadConfig:
    return BadConfig(f"the environment variable {variable} is {text!r}", fix=f"it takes {expected}")
