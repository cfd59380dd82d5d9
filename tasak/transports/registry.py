"""Finds transports by entry point and calls their hooks: built-ins and third parties through one door."""

import asyncio
import functools
import inspect
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeGuard

import pluggy

import tasak
from tasak import ownership
from tasak.errors import BadConfig, BrokenTransport, TasakError
from tasak.failure import Misbehaved, kind
from tasak.paths import quoted
from tasak.plugin import AppConfig, Host, Session
from tasak.transports import hookspecs

GROUP = "tasak.transports"

# Where our own code is.
SITE = Path(tasak.__file__).parents[1]
VERBS = ("transport_schema", "connect", "ping", "close")
FURTHER_HOOKS = ("parts", "login", "login_status", "logout")


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginInfo:
    """One line of `tasak plugins`."""

    name: str
    version: str | None
    file: str | None
    state: Literal["ok", "broken", "failing"]
    """`broken` does not load, or has no schema; `failing` has, and went wrong in the daemon."""
    reason: str | None


class Transport:
    """One plugin's verbs, each awaitable whether the plugin wrote a plain function or `async def`."""

    def __init__(
        self, name: str, hooks: Mapping[str, pluggy.HookCaller], on_trouble: Callable[[str], None] = lambda deed: None
    ) -> None:
        self.name = name
        self.blame = on_trouble
        """Tell it what the plugin's code did that it should not have."""
        self._hooks = hooks

    def schema(self) -> Mapping[str, Any]:
        """JSON Schema of the transport's options.

        Raises:
            BrokenTransport: the plugin answered with something else, or raised.
        """
        try:
            schema = self._hooks["transport_schema"]()
        except BaseException as problem:
            if is_ctrl_c(problem):
                raise
            raise broken(self.name, f"its transport_schema raised {kind(problem)}") from problem
        if inspect.iscoroutine(schema):
            schema.close()
        if not isinstance(schema, dict):
            raise broken(self.name, f"its transport_schema answered {type(schema).__name__} instead of a dict")
        return schema

    async def connect(self, app: AppConfig, host: Host) -> Session:
        session: Session = await self._run("connect", app=app, host=host)
        return session

    async def ping(self, session: Session) -> None:
        await self._run("ping", session=session)

    async def close(self, session: Session) -> None:
        await self._run("close", session=session)

    def parts(self, options: Mapping[str, Any]) -> Sequence[str]:
        """The other apps that one with these options calls.

        Raises:
            BadConfig: the options do not say it.
            BrokenTransport: the plugin raised something else, or answered with no names.
        """
        try:
            names = self._hooks["parts"](options=options)
        except TasakError:
            raise
        except BaseException as problem:
            if is_ctrl_c(problem):
                raise
            raise broken(self.name, f"its parts raised {kind(problem)}") from problem
        if inspect.iscoroutine(names):
            names.close()
        if not are_names(found := () if names is None else names):
            raise broken(self.name, f"its parts answered {type(names).__name__} instead of the names of apps")
        return tuple(found)

    @property
    def has_login(self) -> bool:
        return bool(self._hooks["login"].get_hookimpls())

    async def login(self, app: AppConfig, host: Host, *, opens_browser: bool) -> None:
        await self._sign_in("login", app=app, host=host, opens_browser=opens_browser)

    async def login_status(self, app: AppConfig, host: Host) -> Mapping[str, Any]:
        known = await self._sign_in("login_status", app=app, host=host) or {}
        if not isinstance(known, Mapping):
            raise failed(self.name, f"its login_status answered {type(known).__name__} instead of a dict")
        return known

    async def logout(self, app: AppConfig, host: Host) -> bool:
        return bool(await self._sign_in("logout", app=app, host=host))

    async def _sign_in(self, hook: str, **given: Any) -> Any:
        """What the hook answers.

        Raises:
            TasakError: as the hook raised it, or BrokenTransport for what it should not have raised.
        """
        try:
            return await self._run(hook, **given)
        except TasakError:
            raise
        except Misbehaved as problem:
            raise failed(self.name, str(problem)) from problem
        except Exception as problem:
            raise failed(self.name, f"its {hook} raised {kind(problem)}") from problem

    async def _run(self, hook: str, **given: Any) -> Any:
        try:
            answer = self._hooks[hook](**given)
            return await answer if inspect.isawaitable(answer) else answer
        except SystemExit as problem:
            # In a task it would end the whole process.
            raise Misbehaved(f"its {hook} wanted to end the process") from problem


class Registry:
    """The transports that are installed. Names come from metadata; a plugin's code loads with its first app."""

    def __init__(self, found: Iterable[EntryPoint] | None = None) -> None:
        self._found: dict[str, list[EntryPoint]] = {}
        for point in entry_points(group=GROUP) if found is None else found:
            self._found.setdefault(point.name, []).append(point)
        self._loaded: dict[str, Transport] = {}
        self._troubles: dict[str, str] = {}

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

    def troubles(self) -> Mapping[str, str]:
        """What plugins did wrong while they were used, the last deed of each, by transport."""
        return dict(self._troubles)

    def blame(self, modules: Sequence[str], deed: str) -> None:
        """Note the deed on the transport whose code is innermost among the `modules`, if there is one."""
        for module in modules:
            if point := self._owner_of(module):
                self._troubles[point.name] = deed
                return

    def _owner_of(self, module: str) -> EntryPoint | None:
        """The transport that the module is of; of several in one package, the one that it is nearest to."""
        points = [point for point in self._entry_points() if is_within(module, package_of(point))]
        return max(points, key=lambda point: is_within(module, module_of(point)), default=None)

    def listing(self, use: Callable[[Transport], object] = Transport.schema) -> list[PluginInfo]:
        """Every plugin, loaded to see whether it can be. `use` raises BrokenTransport for one that is of none then."""
        return [self._info(point, use) for point in self._entry_points()]

    def _entry_points(self) -> Iterator[EntryPoint]:
        for name in self.names():
            yield from self._found[name]

    def _entry_point(self, name: str) -> EntryPoint:
        points = self._found.get(name, [])
        if not points:
            close = get_close_matches(name, self._found, n=1)
            known = f"installed are: {', '.join(self.names())}; one that came later counts after `tasak daemon restart`"
            raise BadConfig(f"there is no transport {name!r}", fix=f"did you mean {close[0]!r}?" if close else known)
        if len(points) > 1:
            owners = " and ".join(owner(point) for point in points)
            raise broken(name, f"two packages bring a transport of that name, {owners}")
        return points[0]

    def _load(self, point: EntryPoint) -> Transport:
        if not EntryPoint.pattern.match(point.value):
            raise broken(point.name, f"its entry point, {point.value!r}, is no `module` or `module:object`")
        if place := exposed_place(point):
            raise broken(point.name, f"others can write to {place}, and so change its code: chmod -R go-w {place}")
        try:
            hooks = hooks_of(point.load(), point.name)
            return Transport(point.name, hooks, functools.partial(self._troubles.__setitem__, point.name))
        except BaseException as problem:
            if is_ctrl_c(problem):
                raise
            raise broken(point.name, described(problem)) from problem

    def _info(self, point: EntryPoint, use: Callable[[Transport], object]) -> PluginInfo:
        reason = None
        try:
            use(self.transport(point.name))
        except BrokenTransport as problem:
            reason = problem.message
        return PluginInfo(
            name=point.name,
            version=point.dist.version if point.dist else None,
            file=file_of(point),
            state="broken" if reason else "ok",
            reason=reason,
        )


def hooks_of(module: ModuleType, name: str) -> Mapping[str, pluggy.HookCaller]:
    """The plugin's hooks; one that it does not have answers None.

    Raises:
        PluginValidationError: a hook is misspelt, or takes arguments that there are not.
        LookupError: a verb is missing.
    """
    # One manager a plugin: pluggy does not await, and among several the first coroutine wins whatever it answers.
    plugins = pluggy.PluginManager("tasak")
    plugins.add_hookspecs(hookspecs)
    plugins.register(module, name=name)
    plugins.check_pending()
    hooks = {hook: getattr(plugins.hook, hook) for hook in (*VERBS, *FURTHER_HOOKS)}
    if missing := [verb for verb in VERBS if not hooks[verb].get_hookimpls()]:
        raise LookupError(f"it has no hook {', '.join(missing)}")
    return hooks


def broken(name: str, reason: str) -> BrokenTransport:
    return BrokenTransport(f"the transport {name!r} cannot be used: {reason}", fix="see `tasak plugins`")


def failed(name: str, deed: str) -> BrokenTransport:
    """It can be used, and did in the process of a command what it should not have."""
    return BrokenTransport(f"the transport {name!r} failed: {deed}", fix="`tasak --debug …` shows where")


def are_names(answer: object) -> TypeGuard[Collection[str]]:
    if not isinstance(answer, Collection) or isinstance(answer, str):
        return False
    return all(isinstance(each, str) for each in answer)


def described(problem: BaseException) -> str:
    """On one line; nothing of the config is known yet where a plugin is imported."""
    said = " ".join(str(problem).split())
    return f"{type(problem).__name__}: {said}" if said else type(problem).__name__


def exposed_place(point: EntryPoint) -> str | None:
    """The first place of a third party's code that others can write to. Where ours is, whoever can has us already."""
    top = module_of(point).partition(".")[0]
    try:
        spec = find_spec(top) if top != "tasak" and top not in sys.modules else None
    except (ImportError, ValueError):  # loading it says so, too
        return None
    if spec is None or not spec.has_location or spec.origin is None:
        return None
    depth = 2 if spec.submodule_search_locations else 1
    for place in (Path(spec.origin), *Path(spec.origin).parents[:depth]):
        # In an archive there are no modes; the archive's own place comes last.
        if place != SITE and place.exists() and ownership.can_others_change(place.stat()):
            return quoted(place)
    return None


def is_ctrl_c(problem: BaseException) -> bool:
    """Whether it is the user who ends this process. In a loop, which Ctrl-C cancels, only a plugin raises that."""
    if not isinstance(problem, KeyboardInterrupt):
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return True
    return False


def is_within(module: str, package: str) -> bool:
    return f"{module}.".startswith(f"{package}.")


def module_of(point: EntryPoint) -> str:
    """The module that it names; where it names none, whatever it says."""
    named = EntryPoint.pattern.match(point.value)
    return named["module"] if named else point.value


def package_of(point: EntryPoint) -> str:
    """All of a third party's package is its own; of ours, the transport's module is."""
    top = module_of(point).partition(".")[0]
    return module_of(point) if top == "tasak" else top


def owner(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.value


def file_of(point: EntryPoint) -> str | None:
    try:
        spec = find_spec(module_of(point))
    except BaseException as problem:
        if is_ctrl_c(problem):
            raise
        return None  # finding a submodule imports its package: plugin code
    return spec.origin if spec else None
