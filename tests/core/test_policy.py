"""The rules: what may run again, and what may run at all."""

from pathlib import Path

import pytest

from tasak.core import policy
from tasak.core.app import App
from tasak.core.config_loader import Loader
from tasak.errors import (
    BackingOff,
    BadConfig,
    BrokenTransport,
    CallTimedOut,
    Cancelled,
    ConnectFailed,
    ConnectTimedOut,
    DaemonAway,
    DaemonLost,
    Denied,
    Draining,
    InternalError,
    NotExecuted,
    OutcomeUnknown,
    ServerError,
    SessionLost,
    UnknownTool,
    Usage,
    VersionSkew,
    error_types,
)

NOTHING_WAS_WRITTEN = {NotExecuted, Draining, VersionSkew, DaemonAway}
FOUND_BROKEN = {ConnectFailed, ConnectTimedOut, BackingOff, BrokenTransport}
MAY_HAVE_RUN = {OutcomeUnknown, CallTimedOut, SessionLost, DaemonLost}


class Config:
    """The user's own config file, with one app in it."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self.file = home / "tasak.yaml"

    def app(self, rules: str) -> App:
        self.file.write_text(f"apps:\n  fast: {{command: /bin/sh, {rules}}}\n")
        self.file.chmod(0o600)
        loader = Loader(
            state_config=self.file,
            home=self._home,
            schema_of=lambda transport: {"properties": {"command": {"format": "command"}}},
            builtins={},
            daemon_env={},
        )
        return loader.load(None, {}).resolve("fast")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(tmp_path)


@pytest.fixture
def app(config: Config) -> App:
    return config.app("tools: {look: {retry: safe}, pay: {retry: never}, read: {read_only: true}}")


def kinds(errors):
    return pytest.mark.parametrize("kind", sorted(errors, key=lambda each: each.__name__))


@kinds(NOTHING_WAS_WRITTEN)
@pytest.mark.parametrize("tool", ["look", "pay", "read", "other"])
def test_what_was_not_written_may_run_again_whatever_it_is(app, kind, tool):
    assert policy.may_run_again(kind("x"), app, tool)


@kinds(FOUND_BROKEN)
@pytest.mark.parametrize("tool", ["look", "other"])
def test_what_was_just_found_broken_is_not_asked_again(app, kind, tool):
    assert not policy.may_run_again(kind("x"), app, tool)


@kinds(MAY_HAVE_RUN)
def test_what_may_have_run_runs_again_only_where_the_user_calls_it_safe(app, kind):
    found = {tool: policy.may_run_again(kind("x"), app, tool) for tool in ("look", "pay", "read", "other")}

    assert {"look": True, "pay": False, "read": False, "other": False} == found


@kinds(set(error_types()) - NOTHING_WAS_WRITTEN - FOUND_BROKEN - MAY_HAVE_RUN)
def test_nothing_else_runs_again_not_even_what_is_safe(app, kind):
    assert not policy.may_run_again(kind("x"), app, "look")


def test_the_table_knows_answers_and_mistakes():
    rest = set(error_types()) - NOTHING_WAS_WRITTEN - FOUND_BROKEN - MAY_HAVE_RUN

    assert {ServerError, Usage, UnknownTool, BadConfig, Denied, Cancelled, InternalError} <= rest


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ("", ["read_file", "read_all", "write"]),
        ("allow: ['*']", ["read_file", "read_all", "write"]),
        ("allow: []", []),
        ("allow: ['read_*']", ["read_file", "read_all"]),
        ("allow: [write]", ["write"]),
        ("allow: [WRITE, rit]", []),
        ("allow: ['read_????']", ["read_file"]),
        ("allow: ['[rx]*']", ["read_file", "read_all"]),
        ("deny: []", ["read_file", "read_all", "write"]),
        ("deny: ['*_all']", ["read_file", "write"]),
        ("allow: ['read_*'], deny: [read_all]", ["read_file"]),
        ("allow: [read_all], deny: ['*']", []),
    ],
)
def test_allow_names_what_is_there_and_deny_wins(config, rules, expected):
    app = config.app(rules)

    assert expected == [tool for tool in ("read_file", "read_all", "write") if policy.is_allowed(app, tool)]


def test_a_refusal_says_whose_word_it_is(config):
    app = config.app("deny: [pay]")

    with pytest.raises(Denied) as raised:
        policy.require_allowed(app, "pay")

    assert "fast: the config does not allow pay" == raised.value.message
    assert f"see allow and deny of fast in {config.file}" == raised.value.fix
    policy.require_allowed(app, "look")
