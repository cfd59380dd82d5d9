"""Finds transports by entry point and calls their hooks: built-ins and third parties through one door."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Literal

import pluggy

from tasak.errors import BadConfig, BrokenTransport
from tasak.plugin import AppConfig, Host, Session
from tasak.transports import hookspecs

GROUP = "tasak.transports"
VERBS = ("transport_schema", "connect", "ping", "close")


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginInfo:
    """One line of `tasak plugins`."""

    name: str
    version: str | None
    file: str | None
    state: Literal["ok", "broken"]
    reason: str | None


class Transport:
    """One plugin's verbs, each awaitable whether the plugin wrote a plain function or `async def`."""

    def __init__(self, name: str, hooks: Mapping[str, Callable[..., Any]]) -> None:
        self.name = name
        self._hooks = hooks

    def schema(self) -> Mapping[str, Any]:
        """JSON Schema of the transport's options.

        Raises:
            BrokenTransport: the plugin answered with something else, or raised.
        """
        try:
            schema = self._hooks["transport_schema"]()
        except (Exception, SystemExit) as problem:
            raise broken(self.name, f"its transport_schema raised {problem!r}") from problem
        if inspect.iscoroutine(schema):
            schema.close()
        if not isinstance(schema, dict):
            raise broken(self.name, f"its transport_schema answered {type(schema).__name__} instead of a dict")
        return schema

    async def connect(self, app: AppConfig, host: Host) -> Session:
        session: Session = await settled(self._hooks["connect"](app=app, host=host))
        return session

    async def ping(self, session: Session) -> None:
        await settled(self._hooks["ping"](session=session))

    async def close(self, session: Session) -> None:
        await settled(self._hooks["close"](session=session))


class Registry:
    """The transports that are installed. Names come from metadata; a plugin's code loads with its first app."""

    def __init__(self, found: Iterable[EntryPoint] | None = None) -> None:
        self._found: dict[str, list[EntryPoint]] = {}
        for point in entry_points(group=GROUP) if found is None else found:
            self._found.setdefault(point.name, []).append(point)
        self._loaded: dict[str, Transport] = {}

    def names(self) -> list[str]:
        return sorted(self._found)

    def transport(self, name: str) -> Transport:
        """The transport of that name, loaded if it was not.

        Raises:
            BadConfig: no plugin has that name.
            BrokenTransport: two have it, or the plugin does not load.
        """
        if name not in self._loaded:
            self._loaded[name] = self._load(self._entry_point(name))
        return self._loaded[name]

    def listing(self) -> list[PluginInfo]:
        """Every plugin, loaded to see whether it can be."""
        return [self._info(point) for name in self.names() for point in self._found[name]]

    def _entry_point(self, name: str) -> EntryPoint:
        points = self._found.get(name, [])
        if not points:
            close = get_close_matches(name, self._found, n=1)
            raise BadConfig(
                f"there is no transport {name!r}",
                fix=f"did you mean {close[0]!r}?" if close else f"installed are: {', '.join(self.names())}",
            )
        if len(points) > 1:
            owners = " and ".join(owner(point) for point in points)
            raise broken(name, f"two packages bring a transport of that name, {owners}")
        return points[0]

    def _load(self, point: EntryPoint) -> Transport:
        try:
            return Transport(point.name, hooks_of(point.load(), point.name))
        except (Exception, SystemExit) as problem:
            raise broken(point.name, f"{type(problem).__name__}: {problem}") from problem

    def _info(self, point: EntryPoint) -> PluginInfo:
        reason = None
        try:
            self.transport(point.name)
        except BrokenTransport as problem:
            reason = problem.message
        return PluginInfo(
            name=point.name,
            version=point.dist.version if point.dist else None,
            file=file_of(point),
            state="broken" if reason else "ok",
            reason=reason,
        )


def hooks_of(module: ModuleType, name: str) -> Mapping[str, Callable[..., Any]]:
    """The plugin's verbs.

    Raises:
        PluginValidationError: a hook is misspelt, or takes arguments that there are not.
        LookupError: a verb is missing.
    """
    # One manager a plugin: pluggy does not await, and among several the first coroutine wins whatever it answers.
    plugins = pluggy.PluginManager("tasak")
    plugins.add_hookspecs(hookspecs)
    plugins.register(module, name=name)
    plugins.check_pending()
    hooks = {verb: getattr(plugins.hook, verb) for verb in VERBS}
    if missing := [verb for verb, caller in hooks.items() if not caller.get_hookimpls()]:
        raise LookupError(f"it has no hook {', '.join(missing)}")
    return hooks


async def settled(answer: Any) -> Any:
    return await answer if inspect.isawaitable(answer) else answer


def broken(name: str, reason: str) -> BrokenTransport:
    return BrokenTransport(f"the transport {name!r} cannot be used: {reason}", fix="see `tasak plugins`")


def owner(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.value


def file_of(point: EntryPoint) -> str | None:
    try:
        spec = find_spec(point.module)
    except (Exception, SystemExit):  # noqa: BLE001 - finding a submodule imports its package: plugin code
        return None
    return spec.origin if spec else None
