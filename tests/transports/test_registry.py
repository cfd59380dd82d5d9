"""Transports found by entry point: real entry points, over small plugin modules."""

import asyncio
import importlib
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint, distributions
from pathlib import Path
from typing import Any

import pytest

from tasak.core.host import AppHost
from tasak.errors import BadConfig, BrokenTransport, SignInNeeded
from tasak.plugin import AppConfig
from tasak.transports.registry import GROUP, PluginInfo, Registry, Transport
from tests.transports.hosts import lone_host

APP = AppConfig(name="app", options={"at": "here"}, directory=None, path="")

PLAIN = """
from tasak.plugin import hookimpl

@hookimpl
def transport_schema():
    return {"title": __name__}

@hookimpl
def connect(app, host):
    return [__name__, "opened", app.options["at"], host.instance]

@hookimpl
def ping(session):
    session.append("pinged")

@hookimpl
def close(session):
    session.append("closed")
"""
SCHEMA = 'return {"title": __name__}'

ASYNC = """
import asyncio
from tasak.plugin import hookimpl

@hookimpl
def transport_schema():
    return {"title": __name__}

@hookimpl
async def connect(app, host):
    await asyncio.sleep(app.options.get("delay", 0))
    return [__name__, "opened", app.options["at"], host.instance]

@hookimpl
async def ping(session):
    await asyncio.sleep(0)
    session.append("pinged")

@hookimpl
async def close(session):
    await asyncio.sleep(0)
    session.append("closed")
"""

Found = list[EntryPoint]


class Site:
    """A folder on `sys.path` that packages are installed in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.modules: list[str] = []

    def plugin(self, name: str, source: str = PLAIN, module: str | None = None) -> EntryPoint:
        """The entry point `name` of a module with this source."""
        module = module or f"plugin_{name}"
        self.module(module, source)
        return EntryPoint(name=name, value=module, group=GROUP)

    def module(self, name: str, source: str) -> Path:
        path = self.folder / f"{name}.py"
        path.write_text(source)
        self.modules.append(name)
        importlib.invalidate_caches()
        return path

    def install(self, distribution: str, version: str, point: EntryPoint) -> None:
        """Make it a package that the metadata of this interpreter knows."""
        info = self.folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[{point.group}]\n{point.name} = {point.value}\n")
        importlib.invalidate_caches()

    def installed(self) -> Found:
        """What the packages of this folder bring."""
        return [point for found in distributions(path=[str(self.folder)]) for point in found.entry_points]

    def imported(self) -> set[str]:
        return {name for name in self.modules if name in sys.modules}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    sys.path.insert(0, str(tmp_path))
    yield made
    sys.path.remove(str(tmp_path))
    for name in made.imported():
        del sys.modules[name]


@pytest.fixture
def host() -> AppHost:
    return lone_host("tree", app_log=None, init_timeout=1.0)


async def life_of(transport: Transport, host: AppHost) -> Any:
    """A session that was opened, pinged and closed."""
    session = await transport.connect(APP, host)
    await transport.ping(session)
    await transport.close(session)
    return session


def reason_of(found: Found, name: str) -> str:
    with pytest.raises(BrokenTransport) as raised:
        Registry(found).transport(name)
    return raised.value.message.removeprefix(f"the transport {name!r} cannot be used: ")


# Finding and loading


def test_names_are_listed_without_importing_anything(site):
    found = [site.plugin("b"), site.plugin("a", "raise SystemExit"), site.plugin("c", "][")]

    assert ["a", "b", "c"] == Registry(found).names()
    assert set() == site.imported()


def test_a_plugin_loads_with_its_first_use_and_alone(site):
    transports = Registry([site.plugin("a"), site.plugin("b")])

    transports.transport("a")

    assert {"plugin_a"} == site.imported()


def test_a_plugin_loads_once(site):
    transports = Registry([site.plugin("a")])

    assert transports.transport("a") is transports.transport("a")


def test_an_installed_package_is_found_by_its_metadata(site):
    site.install("tasak-mem", "2.1", site.plugin("mem"))

    assert {"stdio", "mem"} <= set(Registry().names())
    assert {"title": "plugin_mem"} == Registry().transport("mem").schema()


def test_a_built_in_comes_through_the_same_door():
    transport = Registry().transport("stdio")

    assert ["command"] == transport.schema()["required"]


def test_an_unknown_name_suggests_the_nearest(site):
    with pytest.raises(BadConfig, match=r"^there is no transport 'stido'$") as raised:
        Registry([site.plugin("stdio"), site.plugin("http")]).transport("stido")

    assert "did you mean 'stdio'?" == raised.value.fix


def test_an_unknown_name_that_is_like_none_lists_those_installed(site):
    with pytest.raises(BadConfig) as raised:
        Registry([site.plugin("stdio"), site.plugin("http")]).transport("carrier-pigeon")

    later = "one that came later counts after `tasak daemon restart`"
    assert f"installed are: http, stdio; {later}" == raised.value.fix


# Hooks


@pytest.mark.parametrize("source", [PLAIN, ASYNC], ids=["plain", "async"])
async def test_hooks_may_be_plain_functions_or_async(site, host, source):
    transport = Registry([site.plugin("a", source)]).transport("a")

    assert {"title": "plugin_a"} == transport.schema()
    assert ["plugin_a", "opened", "here", "tree", "pinged", "closed"] == await life_of(transport, host)


async def test_a_hook_may_take_fewer_arguments(site, host):
    source = PLAIN.replace("connect(app, host)", "connect(app)").replace(", host.instance", "")
    source = source.replace("ping(session)", "ping()").replace('session.append("pinged")', "pass")

    transport = Registry([site.plugin("a", source)]).transport("a")

    assert ["plugin_a", "opened", "here", "closed"] == await life_of(transport, host)


@pytest.mark.parametrize("order", ["ab", "ba"])
async def test_each_transport_calls_its_own_plugin_whichever_was_loaded_first(site, host, order):
    transports = Registry([site.plugin("a"), site.plugin("b", ASYNC)])
    both = {name: transports.transport(name) for name in order}

    schemas = {name: transport.schema()["title"] for name, transport in both.items()}
    openers = {name: (await life_of(transport, host))[0] for name, transport in both.items()}

    assert {"a": "plugin_a", "b": "plugin_b"} == schemas
    assert {"a": "plugin_a", "b": "plugin_b"} == openers


async def test_what_a_hook_raises_reaches_its_caller(site, host):
    source = PLAIN.replace('session.append("pinged")', 'raise ConnectionError("no pong")')
    transport = Registry([site.plugin("a", source)]).transport("a")

    with pytest.raises(ConnectionError, match="no pong"):
        await life_of(transport, host)


async def test_a_connect_that_takes_too_long_can_be_cancelled(site, host):
    slow = AppConfig(name="app", options={"at": "here", "delay": 3600}, directory=None, path="")
    transport = Registry([site.plugin("a", ASYNC)]).transport("a")

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await transport.connect(slow, host)


# Plugins that are broken

BROKEN = {
    "misspelt hook": (
        f"{PLAIN}\n@hookimpl\ndef conect(app): pass\n",
        r"PluginValidationError: unknown hook 'conect' in plugin .*plugin_bad",
    ),
    "missing verb": (PLAIN.replace("@hookimpl\ndef ping", "def ping"), r"LookupError: it has no hook ping$"),
    "no verb at all": ("", r"LookupError: it has no hook transport_schema, connect, ping, close$"),
    "wrong argument": (
        PLAIN.replace("app, host", "app, oops"),
        r"PluginValidationError: Plugin 'bad' for hook 'connect'[\s\S]*'oops'",
    ),
    "wrong argument, misspelt hook": (
        f"{PLAIN}\n@hookimpl\ndef aclose(session): pass\n".replace("ping(session)", "ping(oops)"),
        r"PluginValidationError: Plugin 'bad' for hook 'ping'[\s\S]*'oops'",
    ),
    "import error": ("import nowhere_to_be_found", r"ModuleNotFoundError: No module named 'nowhere_to_be_found'$"),
    "syntax error": ("][", r"SyntaxError: "),
    "exit on import": ("raise SystemExit(3)", r"SystemExit: 3$"),
    "what is no Exception on import": ("import asyncio\nraise asyncio.CancelledError('odd')", r"CancelledError: odd$"),
}


@pytest.mark.parametrize(("source", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_broken_plugin_says_what_is_wrong_with_it(site, source, reason):
    found = [site.plugin("bad", source)]

    with pytest.raises(BrokenTransport, match=rf"^the transport 'bad' cannot be used: {reason}") as raised:
        Registry(found).transport("bad")

    assert "see `tasak plugins`" == raised.value.fix


@pytest.mark.parametrize(("source", "_reason"), BROKEN.values(), ids=BROKEN)
async def test_a_broken_plugin_breaks_only_itself(site, host, source, _reason):
    transports = Registry([site.plugin("before"), site.plugin("bad", source), site.plugin("after")])
    before = transports.transport("before")

    with pytest.raises(BrokenTransport):
        transports.transport("bad")

    assert "plugin_before" == (await life_of(before, host))[0]
    assert "plugin_after" == (await life_of(transports.transport("after"), host))[0]


@pytest.mark.parametrize(("source", "_reason"), BROKEN.values(), ids=BROKEN)
def test_the_reason_is_the_same_the_second_time(site, source, _reason):
    transports = Registry([site.plugin("bad", source)])
    reasons = []

    for _ in range(2):
        with pytest.raises(BrokenTransport) as raised:
            transports.transport("bad")
        reasons.append(raised.value.message)

    assert reasons[0] == reasons[1]


def test_the_reason_is_one_line(site):
    assert "ImportError: one two" == reason_of([site.plugin("bad", "raise ImportError('one\\n\\ttwo')")], "bad")


def test_an_entry_point_to_something_that_is_not_there_is_named(site):
    site.module("plugin_gone", PLAIN)
    found = [EntryPoint(name="gone", value="plugin_gone:nothing", group=GROUP)]

    assert "AttributeError: module 'plugin_gone' has no attribute 'nothing'" == reason_of(found, "gone")


NO_REFERENCES = ["", "two words", "-", "plugin_gone:", "plugin_gone!"]


@pytest.mark.parametrize("value", NO_REFERENCES)
def test_an_entry_point_that_names_no_module_says_so(site, value):
    found = [EntryPoint(name="bad", value=value, group=GROUP)]

    assert f"its entry point, {value!r}, is no `module` or `module:object`" == reason_of(found, "bad")


@pytest.mark.parametrize("value", [*NO_REFERENCES, ".", ".plugin", "plugin..good"])
def test_an_entry_point_that_names_no_module_breaks_nothing_else(site, value):
    found = [EntryPoint(name="bad", value=value, group=GROUP), site.plugin("good")]
    transports = Registry(found)

    transports.blame(["plugin_good"], "was slow")

    assert {"good": "was slow"} == transports.troubles()
    assert [("bad", "broken", None), ("good", "ok", str(site.folder / "plugin_good.py"))] == [
        (row.name, row.state, row.file) for row in transports.listing()
    ]


def test_two_packages_with_one_name_are_both_named_and_break_nothing_else(site):
    site.install("tasak-one", "1.0", site.plugin("twin", module="plugin_one"))
    site.install("tasak-two", "2.0", site.plugin("twin", module="plugin_two"))
    site.install("tasak-sole", "3.0", site.plugin("sole"))
    found = site.installed()

    reason = reason_of(found, "twin")

    assert "two packages bring a transport of that name, " in reason
    assert {"tasak-one 1.0", "tasak-two 2.0"} == set(reason.rpartition("name, ")[2].split(" and "))
    assert ["sole", "twin"] == Registry(found).names()
    assert Registry(found).transport("sole")


def test_neither_of_two_with_one_name_is_imported(site):
    found = [site.plugin("twin", module="plugin_one"), site.plugin("twin", module="plugin_two")]

    reason = reason_of(found, "twin")

    assert "two packages bring a transport of that name, plugin_one and plugin_two" == reason
    assert set() == site.imported()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise ValueError('nope')", "its transport_schema raised ValueError"),
        ("raise SystemExit(3)", "its transport_schema raised SystemExit"),
        ("raise GeneratorExit", "its transport_schema raised GeneratorExit"),
        ("return None", "its transport_schema answered NoneType instead of a dict"),
        ("return ['object']", "its transport_schema answered list instead of a dict"),
    ],
)
def test_a_schema_that_is_none_is_refused(site, body, reason):
    transport = Registry([site.plugin("bad", PLAIN.replace(SCHEMA, body))]).transport("bad")

    with pytest.raises(BrokenTransport) as raised:
        transport.schema()

    assert f"the transport 'bad' cannot be used: {reason}" == raised.value.message


@pytest.mark.parametrize(("answer", "kind"), [("5", "int"), ("'one'", "str"), ("['one', 2]", "list")])
def test_parts_that_are_no_names_are_refused(site, answer, kind):
    source = f"{PLAIN}\n@hookimpl\ndef parts(options): return {answer}\n"
    transport = Registry([site.plugin("bad", source)]).transport("bad")

    with pytest.raises(BrokenTransport, match=f"its parts answered {kind} instead of the names of apps"):
        transport.parts({})


def test_parts_that_would_have_to_be_awaited_are_refused(site):
    source = f"{PLAIN}\n@hookimpl\nasync def parts(options): return []\n"
    transport = Registry([site.plugin("bad", source)]).transport("bad")

    with pytest.raises(BrokenTransport, match="its parts answered coroutine instead of the names of apps"):
        transport.parts({})


SIGN_IN = (
    PLAIN
    + """
@hookimpl
async def login(app): {0}

@hookimpl
def login_status(app): {0}

@hookimpl
def logout(app): {0}
"""
)


@pytest.mark.parametrize(
    ("body", "deed"),
    [
        ("raise ValueError('secret')", "its {} raised ValueError"),
        ("raise SystemExit(3)", "its {} wanted to end the process"),
    ],
)
async def test_what_a_sign_in_should_not_raise_is_the_plugins(site, host, body, deed):
    source = SIGN_IN.replace("{0}", body)
    transport = Registry([site.plugin("bad", source)]).transport("bad")
    told = []

    for work in (
        transport.login(APP, host, opens_browser=True),
        transport.login_status(APP, host),
        transport.logout(APP, host),
    ):
        with pytest.raises(BrokenTransport) as raised:
            await work
        told.append(raised.value.message)

    hooks = ("login", "login_status", "logout")
    assert [f"the transport 'bad' failed: {deed.format(hook)}" for hook in hooks] == told


async def test_what_is_known_of_a_sign_in_is_a_mapping(site, host):
    transport = Registry([site.plugin("bad", SIGN_IN.replace("{0}", "return 'yes'"))]).transport("bad")

    with pytest.raises(BrokenTransport, match="its login_status answered str instead of a dict"):
        await transport.login_status(APP, host)


async def test_a_sign_in_that_is_refused_is_told_as_it_was(site, host):
    source = SIGN_IN.replace("{0}", "raise SignInNeeded('nobody came')").replace(
        "import hookimpl", "import SignInNeeded, hookimpl"
    )
    transport = Registry([site.plugin("good", source)]).transport("good")

    with pytest.raises(SignInNeeded, match="nobody came"):
        await transport.login(APP, host, opens_browser=True)


async def test_an_interrupt_in_a_loop_is_the_plugins(site):
    source = f"{PLAIN}\n@hookimpl\ndef parts(options): raise KeyboardInterrupt\n"
    parts = Registry([site.plugin("parts", source)]).transport("parts")
    schema = Registry([site.plugin("odd", PLAIN.replace(SCHEMA, "raise KeyboardInterrupt"))]).transport("odd")

    assert "KeyboardInterrupt" == reason_of([site.plugin("bad", "raise KeyboardInterrupt")], "bad")
    with pytest.raises(BrokenTransport, match="its transport_schema raised KeyboardInterrupt"):
        schema.schema()
    with pytest.raises(BrokenTransport, match="its parts raised KeyboardInterrupt"):
        parts.parts({})


def test_an_interrupt_without_a_loop_is_the_users(site):
    with pytest.raises(KeyboardInterrupt):
        Registry([site.plugin("slow", "raise KeyboardInterrupt")]).listing()


def test_a_schema_that_would_have_to_be_awaited_is_refused(site):
    source = PLAIN.replace("def transport_schema", "async def transport_schema")
    transport = Registry([site.plugin("bad", source)]).transport("bad")

    with pytest.raises(BrokenTransport, match="its transport_schema answered coroutine instead of a dict"):
        transport.schema()


def test_a_schema_that_is_none_breaks_only_its_own_plugin(site):
    transports = Registry([site.plugin("good"), site.plugin("bad", PLAIN.replace(SCHEMA, "raise ValueError"))])
    good, bad = transports.transport("good"), transports.transport("bad")

    with pytest.raises(BrokenTransport):
        bad.schema()

    assert {"title": "plugin_good"} == good.schema()


# `tasak plugins`


def test_the_listing_has_a_row_for_every_plugin_with_its_reason(site):
    site.install("tasak-good", "1.2", site.plugin("good"))
    site.install("tasak-bad", "0.1", site.plugin("bad", "import nowhere_to_be_found"))

    rows = Registry(site.installed()).listing()

    reason = "the transport 'bad' cannot be used: ModuleNotFoundError: No module named 'nowhere_to_be_found'"
    expected = [
        PluginInfo(name="bad", version="0.1", file=str(site.folder / "plugin_bad.py"), state="broken", reason=reason),
        PluginInfo(name="good", version="1.2", file=str(site.folder / "plugin_good.py"), state="ok", reason=None),
    ]
    assert expected == rows


def test_the_listing_has_both_of_two_with_one_name(site):
    site.install("tasak-one", "1.0", site.plugin("twin", module="plugin_one"))
    site.install("tasak-two", "2.0", site.plugin("twin", module="plugin_two"))

    rows = Registry(site.installed()).listing()

    assert {("twin", "1.0", "broken"), ("twin", "2.0", "broken")} == {
        (row.name, row.version, row.state) for row in rows
    }
    assert {"plugin_one.py", "plugin_two.py"} == {Path(row.file or "").name for row in rows}


@pytest.mark.parametrize("source", ["raise SystemExit(3)", "raise GeneratorExit", "raise RuntimeError", "]["])
def test_the_listing_survives_a_package_that_does_not_import(site, source):
    folder = site.folder / "broken_package"
    folder.mkdir()
    (folder / "__init__.py").write_text(source)
    (folder / "plugin.py").write_text(PLAIN)
    found = [EntryPoint(name="bad", value="broken_package.plugin", group=GROUP), site.plugin("good")]

    rows = Registry(found).listing()

    assert [("bad", None, "broken"), ("good", None, "ok")] == [(row.name, row.version, row.state) for row in rows]


def test_the_listing_names_the_version_and_file_of_a_built_in():
    (row,) = [row for row in Registry().listing() if row.name == "stdio"]

    assert ("ok", None) == (row.state, row.reason)
    assert (row.file or "").endswith("tasak/transports/stdio.py")
    assert row.version
