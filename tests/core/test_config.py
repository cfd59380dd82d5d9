"""Which files count for a caller, and what they say together."""

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasak.core.config import AppSummary, Config
from tasak.core.config_loader import Loader
from tasak.core.config_text import parse
from tasak.core.trust import TrustBook
from tasak.errors import BadConfig, TasakError, UnknownApp
from tasak.paths import StateDir

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")

STRANGER = 54321

SCHEMAS: dict[str, dict[str, Any]] = {
    "stdio": {
        "type": "object",
        "properties": {
            "command": {"format": "command", "type": ["string", "array"]},
            "args": {"type": "array"},
            "env": {"type": "object", "additionalProperties": {"type": ["string", "number"]}},
        },
        "required": ["command"],
        "additionalProperties": False,
    },
    "http": {
        "type": "object",
        "properties": {"url": {"type": "string"}, "headers": {"type": "object"}},
        "required": ["url"],
        "additionalProperties": False,
    },
}

SERVER = "command: [/bin/sh, server.sh]"


def schema_of(transport: str) -> Mapping[str, Any]:
    if transport not in SCHEMAS:
        raise BadConfig(f"there is no transport {transport!r}")
    return SCHEMAS[transport]


class World:
    """A home, a project in it and a loader."""

    def __init__(self, root: Path) -> None:
        self.home = root / "home"
        self.project = self.home / "project"
        self.inner = self.project / "inner"
        self.own = self.home / ".tasak" / "tasak.yaml"
        self.inner.mkdir(parents=True)
        self.parsed: list[str] = []
        self.env: dict[str, str] = {}
        self.loader = Loader(
            state_config=self.own,
            home=self.home,
            schema_of=schema_of,
            builtins={"demo": {"command": [sys.executable, "-m", "tasak.demo"], "description": "built in"}},
            daemon_env={},
            trusted=self.own.with_name("trusted.json"),
            parse=self.parse,
        )

    def parse(self, text: str) -> object:
        self.parsed.append(text)
        return parse(text)

    def write(self, path: Path, text: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o644)
        return path

    def define(self, path: Path, *names: str, more: str = "") -> Path:
        apps = "".join(f"  {name}: {{{SERVER}}}\n" for name in names)
        return self.write(path, f"apps:\n{apps}{more}")

    def trust(self, folder: Path) -> None:
        TrustBook(StateDir(self.own.parent)).trust(folder)

    def load(self, cwd: Path | None = None) -> Config:
        return self.loader.load(cwd, self.env)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def names(config: Config) -> list[str]:
    return [app.name for app in config.apps()]


def test_without_any_file_there_are_the_built_in_apps(world):
    config = world.load(world.project)

    expected = AppSummary(name="demo", transport="stdio", file=None, description="built in", disabled=False, error=None)
    assert [expected] == config.apps()
    assert () == config.notices


def test_apps_come_from_every_folder_on_the_way_up(world):
    world.define(world.inner / "tasak.yaml", "inner")
    world.define(world.project / ".tasak" / "tasak.yaml", "outer")
    world.define(world.own, "mine")

    assert ["demo", "inner", "mine", "outer"] == names(world.load(world.inner))
    assert ["demo", "mine", "outer"] == names(world.load(world.project))


def test_the_nearest_definition_wins_whole(world):
    near = world.write(world.inner / "tasak.yaml", f"apps: {{db: {{{SERVER}}}}}")
    world.write(world.own, f"apps: {{db: {{{SERVER}, env: {{A: b}}, description: far}}}}")
    world.trust(world.inner)

    app = world.load(world.inner).resolve("db")

    assert near == app.file
    assert app.description is None
    assert "env" not in app.config.options


def test_a_file_may_redefine_a_built_in_app(world):
    world.define(world.own, "demo")

    assert world.own == world.load().resolve("demo").file


def test_the_users_own_file_counts_for_a_caller_outside_home(world, tmp_path):
    world.define(world.own, "mine")

    assert ["demo", "mine"] == names(world.load(tmp_path))


def test_the_users_own_file_counts_once_and_last_on_a_walk_through_home(world):
    world.define(world.own, "db", "mine")
    near = world.define(world.home / "tasak.yaml", "db")
    world.trust(world.home)

    config = world.load(world.project)

    assert () == config.notices
    assert near == config.resolve("db").file
    assert 2 == len(world.parsed)


def test_a_link_to_the_users_own_file_does_not_count_twice(world):
    world.define(world.own, "mine")
    (world.project / "tasak.yaml").symlink_to(world.own)

    assert world.own == world.load(world.project).resolve("mine").file
    assert 1 == len(world.parsed)


def test_an_isolating_file_is_the_last_one_read(world):
    world.define(world.inner / "tasak.yaml", "inner")
    world.define(world.project / "tasak.yaml", "outer", more="isolate: true\n")
    world.define(world.own, "mine")

    assert ["demo", "inner", "outer"] == names(world.load(world.inner))


@pytest.mark.parametrize("cwd", [None, Path("/nowhere/at/all"), Path("/\0"), Path("/\udc80")])
def test_a_caller_without_a_folder_gets_the_users_own_file_alone(world, cwd):
    world.define(world.own, "mine")

    assert ["demo", "mine"] == names(world.load(cwd))


def test_a_relative_folder_is_refused(world):
    with pytest.raises(BadConfig, match="no absolute path"):
        world.load(Path("project"))


def test_both_names_in_one_folder_are_an_error_that_names_both(world):
    first = world.define(world.project / "tasak.yaml", "a")
    second = world.define(world.project / ".tasak" / "tasak.yaml", "b")

    with pytest.raises(BadConfig) as raised:
        world.load(world.project).resolve("a")

    assert f"there are both {first} and {second}" == raised.value.message


def test_the_caller_may_name_one_file_instead(world):
    world.define(world.project / "tasak.yaml", "outer")
    world.define(world.own, "mine")
    world.define(world.inner / "other.yaml", "other")

    world.env["TASAK_CONFIG"] = "other.yaml"

    assert ["demo", "other"] == names(world.load(world.inner))


def test_a_named_file_that_is_not_there_is_an_error(world):
    world.env["TASAK_CONFIG"] = "other.yaml"

    with pytest.raises(BadConfig, match=f"TASAK_CONFIG names {world.project}/other.yaml, which is not there"):
        world.load(world.project)


def test_a_relative_name_needs_a_folder(world):
    world.env["TASAK_CONFIG"] = "other.yaml"

    with pytest.raises(BadConfig, match="no working directory"):
        world.load(None)


def test_an_unknown_app_comes_with_the_nearest_name(world):
    world.define(world.own, "linear")

    with pytest.raises(UnknownApp, match="no app 'liner'") as raised:
        world.load().resolve("liner")

    assert "did you mean 'linear'?" == raised.value.fix


def test_an_unknown_app_that_resembles_none_comes_with_those_configured(world):
    world.define(world.own, "linear")

    with pytest.raises(UnknownApp) as raised:
        world.load().resolve("xyz")

    assert "configured are: demo, linear" == raised.value.fix


def test_an_unknown_app_where_no_file_is_says_where_one_would_be_read(world):
    with pytest.raises(UnknownApp) as raised:
        world.load(world.project).resolve("xyz")

    places = f"{world.project}, above it, or in ~/.tasak"
    assert f"no tasak.yaml is in {places}: there is only demo" == raised.value.fix


def test_a_broken_file_breaks_only_itself(world):
    near = world.write(world.project / "tasak.yaml", "apps: {}\napps: {}")
    world.define(world.own, "mine")

    config = world.load(world.project)
    app = config.resolve("mine")

    assert world.own == app.file
    assert config.notices == app.notices
    assert (f"{near}: line 2, column 1: the key 'apps' is given twice (passed over)",) == config.notices


def test_an_app_that_may_be_in_a_broken_file_fails_with_that_files_error(world):
    near = world.write(world.project / "tasak.yaml", "apps: {}\napps: {}")

    with pytest.raises(BadConfig) as raised:
        world.load(world.project).resolve("db")

    assert f"{near}: line 2, column 1: the key 'apps' is given twice" == raised.value.message


def test_a_farther_broken_file_is_no_concern_of_a_nearer_app(world):
    world.define(world.project / "tasak.yaml", "db")
    world.write(world.own, "nonsense: [")

    config = world.load(world.project)

    assert 1 == len(config.notices)
    assert () == config.resolve("db").notices


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_fifo_or_a_folder_of_that_name_neither_hangs_nor_crashes(world, make):
    make(world.project / "tasak.yaml")
    world.define(world.own, "mine")

    config = world.load(world.project)

    assert (f"{world.project}/tasak.yaml is no regular file (passed over)",) == config.notices
    assert ["demo", "mine"] == names(config)


@as_root
def test_a_strangers_file_on_the_walk_is_skipped_with_a_notice(world):
    path = world.define(world.project / "tasak.yaml", "evil", more="isolate: true\n")
    os.chown(path, STRANGER, STRANGER)
    world.define(world.project / ".tasak" / "tasak.yaml", "db")
    world.define(world.own, "mine")

    config = world.load(world.project)

    notice = f"{path} is not read: it belongs to another user"
    assert (notice,) == config.notices
    assert ["db", "demo", "mine"] == names(config)
    assert (notice,) == config.resolve("mine").notices
    with pytest.raises(UnknownApp) as raised:
        config.resolve("evil")
    assert raised.value.fix is not None
    assert raised.value.fix.startswith(f"{notice}\n")


@as_root
def test_a_strangers_file_in_the_place_of_the_users_own_is_an_error(world):
    world.define(world.own, "mine")
    os.chown(world.own, STRANGER, STRANGER)

    with pytest.raises(BadConfig, match="belongs to another user"):
        world.load().resolve("mine")


@as_root
def test_a_strangers_file_that_the_caller_names_is_an_error(world):
    path = world.define(world.project / "other.yaml", "db")
    os.chown(path, STRANGER, STRANGER)
    world.env["TASAK_CONFIG"] = str(path)

    with pytest.raises(BadConfig, match="belongs to another user"):
        world.load().resolve("db")


def test_ones_own_file_that_others_can_write_is_an_error_with_the_command_that_mends_it(world):
    world.define(world.project / "tasak.yaml", "db").chmod(0o646)

    with pytest.raises(BadConfig, match="other users can write to it") as raised:
        world.load(world.project).resolve("db")

    assert f"chmod go-w {world.project}/tasak.yaml" == raised.value.fix


def test_a_warm_load_parses_nothing(world):
    world.define(world.project / "tasak.yaml", "db")
    world.define(world.own, "mine")
    world.load(world.inner).resolve("db")
    cold = len(world.parsed)

    for _ in range(3):
        world.load(world.inner).resolve("db")
        world.load(world.project).resolve("mine")

    assert 2 == cold == len(world.parsed)


def test_an_edited_file_counts_at_once(world):
    world.define(world.own, "mine")
    world.load()

    world.define(world.own, "yours")

    assert ["demo", "yours"] == names(world.load())


def test_a_loaded_config_does_not_change_with_the_files(world):
    world.define(world.own, "mine")
    config = world.load()

    world.define(world.own, "yours")

    assert ["demo", "mine"] == names(config)


def test_the_number_of_connections_is_the_users_own_files_to_say(world):
    world.define(world.project / "tasak.yaml", "db", more="settings: {max_connections: 3}\n")
    world.write(world.own, "settings: {max_connections: 7}")

    config = world.load(world.project)

    assert 7 == world.loader.max_connections()
    assert (f"{world.project}/tasak.yaml: 'max_connections' counts only in {world.own}",) == config.notices


@pytest.mark.parametrize("text", ["", "settings: {max_connections: many}"])
def test_there_are_64_connections_unless_the_users_own_file_says_otherwise(world, text):
    world.write(world.own, text)

    assert 64 == world.loader.max_connections()


def test_a_name_of_our_own_is_noticed(world):
    world.define(world.own, "list")

    config = world.load()

    expected = f"app 'list' in {world.own}: it is named like our own command: call it as `tasak -- list`"
    assert (expected,) == config.notices
    assert (expected,) == config.resolve("list").notices


def test_the_listing_says_what_is_wrong_with_each_app_and_needs_no_variables(world):
    world.write(
        world.own,
        """
        apps:
          fine: {command: 'x ${UNSET}', description: good, disabled: true}
          remote: {url: 'https://example.org/${UNSET}'}
          other: {transport: elsewhere}
          empty:
          odd: {comand: x}
          wrong: {command: x, parallel: 0}
          ../up: {command: x}
        """,
    )

    found = {app.name: (app.transport, app.disabled, app.error) for app in world.load().apps() if app.name != "demo"}

    where = f"in {world.own}:"
    assert found == {
        "fine": ("stdio", True, None),
        "remote": ("http", False, None),
        "other": ("elsewhere", False, None),
        "empty": (None, False, f"app 'empty' {where} it has to be a mapping, such as {{command: npx server}}"),
        "odd": (None, False, f"app 'odd' {where} it has neither 'command' nor 'url'"),
        "wrong": (
            "stdio",
            False,
            f"app 'wrong' {where} 'parallel' is not what it should be: a whole number, 1 or more",
        ),
        "../up": (None, False, f"app '../up' {where} it cannot have this name"),
    }


KEYS = st.text(max_size=4) | st.sampled_from([
    "apps", "mcpServers", "settings", "isolate", "db", "demo", "command", "args", "env", "url", "type", "transport",
    "cwd", "tools", "retry", "allow", "deny", "disabled", "idle_ttl", "parallel", "call_timeout", "max_connections",
    "headers", "x-y", "envFile", "description",
])  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
APP = st.fixed_dictionaries(
    {},
    optional={
        "command": st.sampled_from(["sh", "sh -c '", "~/x", "./x", "${X}", "\\", ""])
        | st.lists(JSON, max_size=2)
        | JSON,
        "url": st.text(max_size=8) | JSON,
        "args": st.lists(JSON, max_size=3) | JSON,
        "env": st.dictionaries(KEYS, JSON, max_size=2),
        "cwd": st.sampled_from(["caller", ".", "~", "${X}", "nowhere"]) | st.text(max_size=6),
        "tools": JSON,
        "type": st.sampled_from(["stdio", "http", "sse", "local"]),
        "call_timeout": JSON,
        "allow": JSON,
        "description": JSON,
    },
)
ENV = st.dictionaries(
    st.sampled_from(["X", "PATH", "HOME", "TASAK_SESSION", "TASAK_TOOL_RETRIES", "TASAK_CONFIG"]),
    st.text(alphabet=st.characters() | st.just("\udc80"), max_size=6) | st.sampled_from(["1", "/bin", "tasak.yaml"]),
)
relaxed = settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def use(world: World, env: Mapping[str, str]) -> None:
    """All that a caller can do; only failures that have a reader may come of it."""
    try:
        config = world.loader.load(world.project, env)
        known = [app.name for app in config.apps()]
    except TasakError:
        return
    for name in {*known, "db", "demo"}:
        with suppress(TasakError):
            config.resolve(name)


@relaxed
@given(text=st.text(alphabet=st.characters(codec="utf-8")) | st.text(alphabet="ab{}[]:,&*<-?!'\"#|> \n1.~"), env=ENV)
def test_whatever_the_text_is_only_our_own_errors_come_of_it(world, text, env):
    world.write(world.project / "tasak.yaml", f"apps: {{db: {{{SERVER}}}}}\n{text}")
    world.write(world.own, text)

    use(world, env)


@relaxed
@given(top=st.dictionaries(KEYS, JSON, max_size=3) | JSON, apps=st.dictionaries(KEYS, APP | JSON, max_size=3), env=ENV)
def test_whatever_the_structure_is_only_our_own_errors_come_of_it(world, top, apps, env):
    structure: Any = {**top, "apps": apps} if isinstance(top, dict) else top
    world.write(world.own, str(len(world.parsed)))
    loader = Loader(
        state_config=world.own,
        home=world.home,
        schema_of=schema_of,
        builtins={},
        daemon_env={},
        parse=lambda _: structure,
    )
    world.loader = loader

    use(world, env)
