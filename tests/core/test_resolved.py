"""An app is resolved once for as long as all looks the same, and never longer than that."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tasak.core.app import App
from tasak.core.config_loader import Loader
from tasak.errors import BadConfig, UnknownApp
from tests.core.test_config import World

DEFINITION = 'apps: {app: {command: server, env: {TOKEN: "${TOKEN}", KEY: "${file:key}"}}}'


class Caller:
    """A project with one app, whose program is on a PATH of two folders."""

    def __init__(self, root: Path) -> None:
        self.world = World(root)
        self.file = self.world.write(self.world.project / "tasak.yaml", DEFINITION)
        for folder in (self.world.project, self.world.inner, self.world.inner / ".tasak"):
            folder.mkdir(exist_ok=True)
            (folder / "key").touch(0o600)
            (folder / "key").write_text("a")
        self.first, self.second = (root / name for name in ("first", "second"))
        for folder in (self.first, self.second):
            folder.mkdir()
        self.env = {"PATH": f"{self.first}:{self.second}", "TOKEN": "a"}
        self.install(self.second)

    @property
    def loader(self) -> Loader:
        return self.world.loader

    def install(self, folder: Path) -> None:
        program = folder / "server"
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)

    def resolve(self, name: str = "app", **how: object) -> App:
        given = {"cwd": self.world.inner, "env": dict(self.env)} | how
        return self.loader.resolve(name, **given)  # type: ignore[arg-type]  # a test's own keywords


@pytest.fixture
def caller(tmp_path: Path) -> Caller:
    return Caller(tmp_path)


def test_nothing_is_done_again_while_all_looks_the_same(caller):
    assert caller.resolve() is caller.resolve()


def edit(caller: Caller) -> None:
    caller.world.write(caller.file, DEFINITION.replace("TOKEN: ", "OTHER: 1, TOKEN: "))


def define_nearer(caller: Caller) -> None:
    caller.world.write(caller.world.inner / "tasak.yaml", DEFINITION)
    caller.world.trust(caller.world.inner)


def define_in_a_hidden_folder(caller: Caller) -> None:
    caller.world.write(caller.world.inner / ".tasak" / "tasak.yaml", DEFINITION)
    caller.world.trust(caller.world.inner)


def change_a_value(caller: Caller) -> None:
    caller.env["TOKEN"] = "b"


def change_a_secret(caller: Caller) -> None:
    (caller.world.project / "key").write_text("b")


def install_before(caller: Caller) -> None:
    caller.install(caller.first)


@pytest.mark.parametrize(
    "change",
    [edit, define_nearer, define_in_a_hidden_folder, change_a_value, change_a_secret, install_before],
    ids=lambda each: each.__name__,
)
def test_whatever_shapes_the_session_is_seen_by_the_next_call(change: Callable[[Caller], None], caller):
    before = caller.resolve().fingerprint

    change(caller)

    assert before != caller.resolve().fingerprint


def test_trust_that_is_given_or_taken_counts_at_once(caller):
    assert "unknown" == caller.resolve().standing

    caller.world.trust(caller.world.project)
    assert "trusted" == caller.resolve().standing
    assert caller.resolve() is caller.resolve()

    caller.world.own.with_name("trusted.json").unlink()
    assert "unknown" == caller.resolve().standing


def test_a_file_that_goes_takes_its_app_along(caller):
    caller.resolve()

    caller.file.unlink()

    with pytest.raises(UnknownApp):
        caller.resolve()


def test_a_knob_in_the_callers_environment_counts_at_once(caller):
    before = caller.resolve().limits.call_timeout

    caller.env["TASAK_TOOL_CALL_TIMEOUT"] = "7"

    assert (30.0, 7.0) == (before, caller.resolve().limits.call_timeout)


def test_settings_of_a_farther_file_count_at_once(caller):
    caller.resolve()

    caller.world.write(caller.file, f"{DEFINITION}\nsettings: {{call_timeout: 9}}")

    assert 9.0 == caller.resolve().limits.call_timeout


def test_another_session_timeout_or_folder_is_another_app(caller):
    plain = caller.resolve()

    assert plain.fingerprint != caller.resolve(session="mine").fingerprint
    assert 5.0 == caller.resolve(timeout=5.0).limits.call_timeout
    with pytest.raises(UnknownApp):
        caller.resolve(cwd=caller.world.home)


def test_what_cannot_be_resolved_is_tried_again(caller):
    del caller.env["TOKEN"]
    with pytest.raises(BadConfig):
        caller.resolve()

    caller.env["TOKEN"] = "a"

    assert "app" == caller.resolve().name


def test_a_file_written_into_the_apps_folder_does_not_matter(caller):
    before = caller.resolve()

    (caller.world.project / "notes.txt").write_text("")

    assert before is caller.resolve()


def test_another_folder_in_the_place_of_the_apps_is_seen(caller):
    definition = DEFINITION.replace("command:", "cwd: work, command:")
    caller.world.write(caller.file, definition)
    work = caller.world.project / "work"
    work.mkdir()
    before = caller.resolve()

    work.rename(caller.world.project / "old")
    work.mkdir()

    assert before is not caller.resolve()
