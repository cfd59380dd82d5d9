import pytest

from tasak.core import settings
from tasak.core.gateway import Gateway
from tasak.core.settings import KNOBS, DaemonSettings
from tasak.errors import BadConfig
from tasak.paths import StateDir

DEFAULTS = {
    "idle_ttl": 300.0,
    "cache_ttl": 900.0,
    "max_age": None,
    "parallel": None,
    "init_timeout": 30.0,
    "init_attempts": 2,
    "list_timeout": 15.0,
    "call_timeout": 30.0,
    "call_timeout_max": 600.0,
    "retries": 1,
}


def test_the_defaults_are_those_of_the_architecture_document():
    limits = settings.limits()

    assert DEFAULTS == {knob.name: getattr(limits, knob.name) for knob in KNOBS}


def test_the_first_source_that_names_a_knob_decides():
    limits = settings.limits({}, {"retries": 0}, {"retries": 3, "parallel": 4})

    assert 0 == limits.retries
    assert 4 == limits.parallel


def test_never_is_a_value_and_not_the_absence_of_one():
    limits = settings.limits({"idle_ttl": None}, {"idle_ttl": 5.0})

    assert limits.idle_ttl is None


@pytest.mark.parametrize(
    ("app", "file"),
    [
        ({"call_timeout": 20.0, "call_timeout_max": 10.0}, {}),
        ({"call_timeout": 20.0}, {"call_timeout_max": 10.0}),
        ({"call_timeout_max": 10.0}, {"call_timeout": 20.0}),
        ({"call_timeout_max": 10.0}, {}),
    ],
)
def test_a_bound_of_the_whole_call_below_that_of_its_silence_is_refused(app, file):
    with pytest.raises(BadConfig, match=r"app 'x': call_timeout_max, 10 s, is below call_timeout, [23]0 s"):
        settings.require_room("app 'x'", app, file)


@pytest.mark.parametrize("app", [{}, {"call_timeout": 900.0}, {"call_timeout": 10.0, "call_timeout_max": 10.0}])
def test_a_bound_that_no_file_sets_gives_way(app):
    settings.require_room("app 'x'", app, {})


def test_a_caller_who_asks_for_longer_has_the_time_and_a_file_that_contradicts_itself_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / ".tasak" / "tasak.yaml"
    file.parent.mkdir(mode=0o700)

    def limits(words: str) -> settings.Limits:
        file.write_text(f"apps: {{a: {{url: 'https://example.com', {words}}}}}")
        loader = Gateway(StateDir(file.parent), environment={})
        return loader.config(tmp_path, {}).resolve("a", timeout=900.0).limits

    assert 900.0 == limits("call_timeout: 5, call_timeout_max: 10").call_timeout_max
    with pytest.raises(BadConfig, match=r"app 'a' in .*: call_timeout_max, 10 s, is below call_timeout, 20 s"):
        limits("call_timeout: 20, call_timeout_max: 10")


def test_the_longest_call_is_never_below_the_timeout_that_was_asked_for():
    limits = settings.limits({"call_timeout": 3600.0})

    assert 3600.0 == limits.call_timeout_max


@pytest.mark.parametrize(
    ("variable", "text", "is_daemons", "expected"),
    [
        ("TASAK_DAEMON_CONN_TTL", "5", True, {"idle_ttl": 5.0}),
        ("TASAK_DAEMON_CONN_TTL", "never", True, {"idle_ttl": None}),
        ("TASAK_DAEMON_CACHE_TTL", "0", True, {"cache_ttl": 0.0}),
        ("TASAK_MCP_INIT_TIMEOUT", "1.5", False, {"init_timeout": 1.5}),
        ("TASAK_MCP_INIT_ATTEMPTS", "3", False, {"init_attempts": 3}),
        ("TASAK_TOOL_LIST_TIMEOUT", ".5", False, {"list_timeout": 0.5}),
        ("TASAK_TOOL_CALL_TIMEOUT", "90", False, {"call_timeout": 90.0}),
        ("TASAK_TOOL_RETRIES", "0", False, {"retries": 0}),
    ],
)
def test_each_variable_sets_its_knob_in_its_own_environment(variable, text, is_daemons, expected):
    here = settings.of_environment({variable: text}, is_daemons=is_daemons)
    elsewhere = settings.of_environment({variable: text}, is_daemons=not is_daemons)

    assert expected == here
    assert {} == elsewhere


def test_an_empty_variable_counts_as_unset():
    assert {} == settings.of_environment({"TASAK_TOOL_RETRIES": ""}, is_daemons=False)


@pytest.mark.parametrize("text", ["soon", "-1", "0", "1e3", "nan", "inf", " 5", "5s", "9" * 5000, "٣"])
def test_a_malformed_variable_is_named(text):
    with pytest.raises(BadConfig, match="TASAK_TOOL_CALL_TIMEOUT") as raised:
        settings.of_environment({"TASAK_TOOL_CALL_TIMEOUT": text}, is_daemons=False)

    assert "it takes seconds, above 0" == raised.value.fix


@pytest.mark.parametrize("text", ["1.5", "never", "0"])
def test_a_count_is_a_whole_number(text):
    with pytest.raises(BadConfig, match="TASAK_MCP_INIT_ATTEMPTS"):
        settings.of_environment({"TASAK_MCP_INIT_ATTEMPTS": text}, is_daemons=False)


def test_a_file_sets_knobs_by_their_names_there():
    found = settings.of_file({"conn_ttl": "never", "retries": 0, "max_connections": 8, "call_timeout": 5})

    assert {"idle_ttl": None, "retries": 0, "max_connections": 8, "call_timeout": 5.0} == found


def test_an_unknown_setting_is_refused_with_the_nearest_name():
    with pytest.raises(BadConfig, match="unknown setting 'call_timout'") as raised:
        settings.of_file({"call_timout": 3})

    assert "did you mean 'call_timeout'?" == raised.value.fix


@pytest.mark.parametrize("value", [True, "5", None, 0, -1, [], {}, float("nan"), float("inf"), 10**400])
def test_a_setting_of_the_wrong_kind_is_refused_by_name(value):
    with pytest.raises(BadConfig, match=r"'call_timeout' .* seconds, above 0"):
        settings.of_file({"call_timeout": value})


def test_the_daemon_listens_where_the_document_says_unless_told():
    expected = DaemonSettings(host="127.0.0.1", port=8765, log_level="INFO")

    assert expected == settings.daemon_settings({})


def test_the_daemons_environment_moves_it():
    env = {"TASAK_DAEMON_HOST": "::1", "TASAK_DAEMON_PORT": "off", "TASAK_DAEMON_LOG_LEVEL": "debug"}

    assert DaemonSettings(host="::1", port=None, log_level="DEBUG") == settings.daemon_settings(env)


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("TASAK_DAEMON_HOST", "0.0.0.0"),
        ("TASAK_DAEMON_HOST", "example.org"),
        ("TASAK_DAEMON_PORT", "0"),
        ("TASAK_DAEMON_PORT", "70000"),
        ("TASAK_DAEMON_PORT", "http"),
        ("TASAK_DAEMON_LOG_LEVEL", "chatty"),
        ("TASAK_DAEMON_CONN_TTL", "5m"),
        ("TASAK_DAEMON_CACHE_TTL", "-1"),
    ],
)
def test_a_daemon_that_is_told_nonsense_says_which_variable(variable, text):
    with pytest.raises(BadConfig, match=variable):
        settings.daemon_settings({variable: text})
