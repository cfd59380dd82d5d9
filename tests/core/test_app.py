"""One app for one caller."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tasak.core.app import App
from tasak.core.app_definition import ToolRule
from tasak.core.config_loader import Loader
from tasak.errors import BadArguments, BadConfig, BrokenTransport, ConnectFailed, Denied

STDIO = {
    "type": "object",
    "properties": {
        "command": {"format": "command", "type": ["string", "array"]},
        "args": {"type": "array"},
        "env": {"type": "object", "additionalProperties": {"type": ["string", "number"]}},
        "shell": {"enum": ["sh", "bash"]},
    },
    "required": ["command"],
    "additionalProperties": False,
}
HTTP = {
    "type": "object",
    "properties": {
        "url": {"description": "http://…", "type": "string", "pattern": "^https?:"},
        "headers": {"type": "object"},
    },
    "required": ["url"],
}
SCHEMAS: dict[str, Any] = {"stdio": STDIO, "http": HTTP, "no-schema": {"type": 3}, "dangling": {"$ref": "#/nowhere"}}


def schema_of(transport: str) -> Mapping[str, Any]:
    if transport not in SCHEMAS:
        raise BadConfig(f"there is no transport {transport!r}", fix="did you mean 'stdio'?")
    return SCHEMAS[transport]


class World:
    """A home, a project with one config file, and a caller in a folder of the project."""

    def __init__(self, root: Path) -> None:
        self.home = root / "home"
        self.project = self.home / "project"
        self.cwd = self.project / "inner"
        self.file = self.project / "tasak.yaml"
        self.bin = root / "bin"
        self.cwd.mkdir(parents=True)
        self.env = {"PATH": str(self.bin), "TOKEN": "s3cret"}
        self.daemon_env: dict[str, str] = {}
        self.server = self.program(self.bin / "server")
        self.loader = Loader(
            state_config=self.home / ".tasak" / "tasak.yaml",
            home=self.home,
            schema_of=schema_of,
            builtins={"demo": {"command": ["/bin/sh"]}},
            daemon_env=self.daemon_env,
        )

    def program(self, path: Path) -> str:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
        return str(path)

    def define(self, app: str, more: str = "") -> None:
        self.file.write_text(f"apps:\n  db: {app}\n{more}")
        self.file.chmod(0o644)

    def resolve(self, app: str | None = None, *, more: str = "", **flags: Any) -> App:
        if app is not None:
            self.define(app, more)
        return self.loader.load(self.cwd, self.env).resolve("db", **flags)

    def refusal(self, app: str, more: str = "") -> str:
        with pytest.raises(BadConfig) as raised:
            self.resolve(app, more=more)
        return raised.value.message.removeprefix(f"app 'db' in {self.file}: ")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.mark.parametrize(
    ("app", "expected"),
    [
        ("{command: server}", "stdio"),
        ("{type: local, command: server}", "stdio"),
        ("{url: 'https://x'}", "http"),
        ("{type: streamable-http, url: 'https://x'}", "http"),
        ("{transport: streamableHttp, url: 'https://x'}", "http"),
    ],
)
def test_the_transport_is_said_or_implied(world, app, expected):
    assert expected == world.resolve(app).transport


@pytest.mark.parametrize(
    ("app", "expected"),
    [
        ("{}", "it has neither 'command' nor 'url'"),
        ("{command: x, url: y}", "it has both 'command' and 'url'"),
        ("{type: stdio, transport: stdio, command: x}", "'transport' and 'type' mean the same"),
        ("{type: 3, command: x}", "'type' is not what it should be: the name of a transport"),
        ("{type: studio, command: x}", "there is no transport 'studio'"),
        ("3", "it has to be a mapping, such as {command: npx server}"),
    ],
)
def test_a_transport_that_is_not_to_be_known_is_refused(world, app, expected):
    assert expected == world.refusal(app)


def test_a_misspelt_command_is_recognised(world):
    with pytest.raises(BadConfig) as raised:
        world.resolve("{comand: server}")

    assert "did you mean 'command'?" == raised.value.fix


def test_an_unknown_key_is_refused_before_anything_else_about_the_app(world):
    app = "{command: 'gone ${UNSET}', env: {A: true}, parallel: none, disabled: true, cwd: nowhere, envv: {}}"

    with pytest.raises(BadConfig) as raised:
        world.resolve(app)

    assert f"app 'db' in {world.file}: unknown key 'envv'" == raised.value.message
    assert "did you mean 'env'?" == raised.value.fix


def test_keys_of_other_clients_are_ignored_with_one_warning(world):
    app = world.resolve("{command: server, timeout: 9, envFile: .env, _note: x, x-y: z, autoApprove: []}")

    expected = (
        f"app 'db' in {world.file}: ignored, because only other clients know it: "
        "'timeout' (write `call_timeout:`, in seconds), "
        "'envFile' (the file is not read: write its variables under `env:`), '_note', 'x-y', 'autoApprove'"
    )
    assert (expected,) == app.notices


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("idle_ttl: soon", "'idle_ttl' is not what it should be: seconds, above 0, or never"),
        ("idle_ttl: true", "'idle_ttl' is not what it should be: seconds, above 0, or never"),
        ("call_timeout: never", "'call_timeout' is not what it should be: seconds, above 0"),
        ("parallel: 1.5", "'parallel' is not what it should be: a whole number, 1 or more"),
        ("description: [x]", "'description' is not what it should be: a string"),
        ("disabled: 'yes'", "'disabled' is not what it should be: true or false"),
        ("cwd: 3", "'cwd' is not what it should be: a string"),
        ("allow: read_*", "'allow' is not what it should be: a list of tool names or globs"),
        ("deny: ~", "'deny' is not what it should be: a list of tool names or globs"),
        ("tools: [x]", "'tools' is not what it should be: a mapping from a tool's name to its rules"),
        ("tools: {x: safe}", "tools: 'x': it has to be a mapping, such as {retry: safe}"),
        ("tools: {x: {retry: always}}", "tools: 'x': 'retry' is not what it should be: safe or never"),
        ("tools: {x: {read_only: 1}}", "tools: 'x': 'read_only' is not what it should be: true or false"),
        ("tools: {x: {retries: 1}}", "tools: 'x': unknown key 'retries'"),
    ],
)
def test_a_common_key_of_the_wrong_kind_is_refused_by_name(world, key, expected):
    assert expected == world.refusal(f"{{command: server, {key}}}")


def test_what_the_user_says_about_tools_is_there_for_the_call(world):
    app = world.resolve("{command: server, allow: ['read_*'], deny: [read_all], tools: {ls: {retry: safe}, rm: {}}}")

    assert ("read_*",) == app.allow
    assert ("read_all",) == app.deny
    assert {"ls": ToolRule(retry="safe"), "rm": ToolRule()} == app.tools


def test_no_allow_is_not_an_empty_one(world):
    assert world.resolve("{command: server}").allow is None
    assert () == world.resolve("{command: server, allow: []}").allow


def test_a_disabled_app_says_so(world):
    with pytest.raises(Denied, match="it is disabled") as raised:
        world.resolve("{command: server, disabled: true}")

    assert "remove `disabled: true`" == raised.value.fix


@pytest.mark.parametrize(
    ("app", "expected"),
    [
        ("{type: stdio}", "lacks 'command'"),
        ("{command: 3}", "'command' has to be a string or a list"),
        ("{command: server, env: [A]}", "'env' has to be a mapping"),
        ("{command: server, shell: zsh}", '\'shell\' has to be one of "sh", "bash"'),
        ("{url: 'ftp://x'}", "'url' does not fit: pattern \"^https?:\""),
    ],
)
def test_options_are_held_against_the_transports_schema(world, app, expected):
    assert expected == world.refusal(app)


def test_an_option_that_does_not_fit_is_told_what_the_plugin_says_of_it(world):
    with pytest.raises(BadConfig, match="'url' does not fit") as raised:
        world.resolve("{url: 'ftp://x'}")

    assert "url is: http://…" == raised.value.fix


@pytest.mark.parametrize(("value", "advice"), [("true", 'quote it: DEBUG: "true"'), ("~", 'quote it: DEBUG: "null"')])
def test_a_bool_in_the_environment_is_refused_with_the_advice_to_quote_it(world, value, advice):
    with pytest.raises(BadConfig, match=r"'env.DEBUG' has to be a string or a number") as raised:
        world.resolve(f"{{command: server, env: {{DEBUG: {value}}}}}")

    assert advice == raised.value.fix


def test_a_refusal_does_not_show_a_value_that_came_from_a_variable(world):
    assert "s3cret" not in world.refusal("{url: '${TOKEN}'}")


@pytest.mark.parametrize("transport", ["no-schema", "dangling"])
def test_a_plugin_whose_schema_is_none_breaks_only_its_own_apps(world, transport):
    with pytest.raises(BrokenTransport, match=transport):
        world.resolve(f"{{transport: {transport}}}")

    assert world.resolve("{command: server}")


@pytest.mark.parametrize(
    ("app", "expected"),
    [
        ("{command: server}", []),
        ("{command: 'server a \"b c\" d'}", ["a", "b c", "d"]),
        ("{command: [server, 'a b', 3]}", ["a b", "3"]),
        ("{command: server, args: ['a b', 3]}", ["a b", "3"]),
        ("{command: [server, x], args: [y]}", ["x", "y"]),
        ("{command: [server, '|', ls;, $(x)]}", ["|", "ls;", "$(x)"]),
        ("{command: server, args: ['|', 'ls;', $(x)]}", ["|", "ls;", "$(x)"]),
        (r"""{command: server '>' "&& $X" \; a'|'b}""", [">", "&& $X", ";", "a|b"]),
        (r"""{command: 'server "\"; \\" "`"'}""", ['"; \\', "`"]),
        ("{command: 'server ${WORDS} pre${WORDS}'}", ["a b; c", "prea b; c"]),
        ("{command: 'server ${UNSET:-a;b} ${UNSET:-\"c | d\"}'}", ["a;b", "c | d"]),
        ("{command: 'server $$5 a$$'}", ["$5", "a$"]),
        ('{command: "\\n server a\\n"}', ["a"]),
        ("{command: \"server 'a\\nb'\"}", ["a\nb"]),
        ("{command: server, args: ['${WORDS}', '$$']}", ["a b; c", "$"]),
        ("{command: '${PROGRAM} x'}", ["x"]),
    ],
)
def test_a_command_becomes_words_and_no_value_adds_one(world, app, expected):
    world.env |= {"WORDS": "a b; c", "PROGRAM": "server"}

    options = world.resolve(app).config.options

    assert {"command": (world.server, *expected)} == options


def test_with_args_a_command_is_one_word(world):
    spaced = world.program(world.bin / "my server")

    assert (spaced, "x") == world.resolve("{command: my server, args: [x]}").config.options["command"]


@pytest.mark.parametrize(
    ("app", "expected"),
    [
        ('{command: "server \'x"}', "the command cannot be split: No closing quotation"),
        ("{command: ''}", "the command is empty"),
        ("{command: []}", "the command is empty"),
        ("{command: ['']}", "the command is empty"),
        ("{command: '', args: [x]}", "the command is empty"),
        ("{command: [server, true]}", "a word of the command is no string"),
        ("{command: server, args: x}", "'args' has to be a list"),
    ],
)
def test_a_command_that_is_none_is_refused(world, app, expected):
    assert expected == world.refusal(app)


@pytest.mark.parametrize(
    ("command", "operator"),
    [
        ("server x; touch y", ";"),
        ("server | ls", "|"),
        ("server 'x'&& ls", "&"),
        ("server < x", "<"),
        ("server 2>&1", ">"),
        ("server `x`", "`"),
        ("server $(x)", "$"),
        ("server $$$HOME", "$"),
        ("server ${WORDS}; ls", ";"),
        ("server '' \\\\; ls", ";"),
        ("server\nls", "\n"),
    ],
)
def test_what_only_a_shell_would_act_upon_is_refused_where_a_command_is_split(world, command, operator):
    refusal = world.refusal(json.dumps({"command": command}))

    assert f"{operator!r} is not quoted in the command, which no shell runs" == refusal


def test_a_variable_without_braces_is_refused_with_how_it_is_written(world):
    with pytest.raises(BadConfig) as raised:
        world.resolve("{command: server $HOME}")

    assert "a variable is written ${NAME}" in raised.value.fix


def test_with_args_the_one_word_of_a_command_is_not_looked_at(world):
    odd = world.program(world.bin / "a;b $c")

    assert (odd,) == world.resolve("{command: a;b $c, args: []}").config.options["command"]


def test_a_program_that_is_not_on_the_callers_path_is_named_with_it(world):
    with pytest.raises(ConnectFailed, match=f"app 'db' in {world.file}: there is no program 'gone'") as raised:
        world.resolve("{command: gone}")

    assert str(world.bin) in (raised.value.fix or "")


def test_the_program_is_the_one_on_the_callers_own_path(world, tmp_path):
    other = world.program(tmp_path / "other" / "server")
    world.env["PATH"] = f"{tmp_path}/other:{world.bin}"

    app = world.resolve("{command: server}")

    assert (other,) == app.config.options["command"]
    assert world.env["PATH"] == app.config.path


@pytest.mark.parametrize("path", ["tools", ""])
def test_a_relative_folder_on_the_path_is_the_callers(world, path):
    expected = world.program(world.cwd / path / "server")
    world.env["PATH"] = f"{path}:{world.bin}"

    found = world.resolve("{command: server}").config.options["command"]

    assert path == "" or (expected,) == found


def test_without_a_path_the_systems_own_counts(world):
    del world.env["PATH"]

    assert os.defpath == world.resolve("{command: sh}").config.path


@pytest.mark.parametrize(
    ("command", "place"),
    [("./run", "project/run"), ("bin/run", "project/bin/run"), ("~/run", "run"), ("${BASE}/run", "project/run")],
)
def test_a_program_with_a_slash_is_found_from_the_apps_directory(world, command, place):
    expected = world.program(world.home / place)
    world.env["BASE"] = str(world.project)

    assert (expected,) == world.resolve(f"{{command: {command!r}}}").config.options["command"]


def test_a_program_with_a_slash_is_the_configs_own_where_the_app_runs_in_the_callers_folder(world):
    expected = world.program(world.project / "run")
    world.program(world.cwd / "run")

    app = world.resolve("{command: ./run, cwd: caller}")

    assert (expected,) == app.config.options["command"]
    assert world.cwd == app.config.directory


def test_a_file_that_cannot_be_executed_is_no_program(world):
    (world.project / "run").write_text("")

    with pytest.raises(ConnectFailed, match=r"there is no program '\./run'"):
        world.resolve("{command: ./run}")


@pytest.mark.parametrize(
    ("cwd", "expected"),
    [
        ("", "project"),
        ("cwd: inner", "project/inner"),
        ("cwd: ~", "project"),
        ("cwd: '~'", "."),
        ("cwd: ~/project", "project"),
        ("cwd: '${PLACE}'", "project/inner"),
        ("cwd: caller", "project/inner"),
    ],
)
def test_an_app_runs_where_its_file_is_unless_told(world, cwd, expected):
    world.env["PLACE"] = str(world.cwd)

    assert world.home / expected == world.resolve(f"{{command: server, {cwd}}}").config.directory


def test_an_app_of_a_dot_folder_runs_in_the_folder_that_holds_it(world):
    world.file = world.project / ".tasak" / "tasak.yaml"
    world.file.parent.mkdir()

    assert world.project == world.resolve("{command: server}").config.directory


def test_an_app_of_the_users_own_file_and_a_built_in_one_run_at_home(world):
    world.file = world.home / ".tasak" / "tasak.yaml"
    world.file.parent.mkdir()

    assert world.home == world.resolve("{command: server}").config.directory
    assert world.home == world.loader.load(world.cwd, world.env).resolve("demo").config.directory


def test_an_app_with_a_url_has_no_directory(world):
    assert world.resolve("{url: 'https://x', cwd: nowhere}").config.directory is None


def test_a_caller_without_a_folder_runs_its_apps_at_home(world):
    world.file = world.home / ".tasak" / "tasak.yaml"
    world.file.parent.mkdir()
    world.define("{command: server, cwd: caller}")

    assert world.home == world.loader.load(None, world.env).resolve("db").config.directory


def test_a_directory_that_is_not_there_is_named(world):
    with pytest.raises(ConnectFailed, match=f"its directory {world.project}/nowhere is not there"):
        world.resolve("{command: server, cwd: nowhere}")


def test_the_callers_values_are_filled_in(world):
    app = world.resolve("{url: 'https://x/${TOKEN}', headers: {A: ['Bearer ${TOKEN}']}}")

    assert {"url": "https://x/s3cret", "headers": {"A": ["Bearer s3cret"]}} == app.config.options


def test_an_unset_variable_breaks_only_the_app_that_uses_it(world):
    refusal = world.refusal("{url: '${UNSET}'}", more="  other: {command: server}\n")

    assert "the environment variable UNSET is not set" == refusal
    assert world.loader.load(world.cwd, world.env).resolve("other")


def test_a_flag_beats_the_environment_beats_the_app_beats_the_settings(world):
    settings = "settings: {call_timeout: 4, list_timeout: 4, init_timeout: 4, retries: 4}\n"
    world.env |= {"TASAK_TOOL_CALL_TIMEOUT": "2", "TASAK_TOOL_LIST_TIMEOUT": "2"}

    app = world.resolve(
        "{command: server, call_timeout: 3, list_timeout: 3, init_timeout: 3}", more=settings, timeout=1
    )

    limits = app.limits
    assert (1.0, 2.0, 3.0, 4, 2) == (
        limits.call_timeout,
        limits.list_timeout,
        limits.init_timeout,
        limits.retries,
        limits.init_attempts,
    )


def test_how_long_a_connection_lives_is_for_the_daemons_environment_to_say(world):
    world.env["TASAK_DAEMON_CONN_TTL"] = "1"
    world.daemon_env["TASAK_DAEMON_CACHE_TTL"] = "2"

    limits = world.resolve("{command: server, idle_ttl: never, cache_ttl: 3}").limits

    assert limits.idle_ttl is None
    assert 2.0 == limits.cache_ttl


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), True])
def test_a_malformed_timeout_is_refused(world, timeout):
    with pytest.raises(BadArguments, match="--timeout"):
        world.resolve("{command: server}", timeout=timeout)


def test_a_session_is_named_by_the_flag_or_else_by_the_environment(world):
    world.define("{command: server}")

    assert world.resolve().session is None
    world.env["TASAK_SESSION"] = "mine"
    assert "mine" == world.resolve().session
    assert "yours" == world.resolve(session="yours").session


def test_a_session_that_cannot_be_a_name_is_refused(world):
    with pytest.raises(BadArguments, match="--session"):
        world.resolve("{command: server}", session="../x")

    world.env["TASAK_SESSION"] = "a b"
    with pytest.raises(BadConfig, match="TASAK_SESSION") as raised:
        world.resolve()

    assert (raised.value.fix or "").startswith("it takes up to 64 letters, digits")


def test_callers_who_differ_in_nothing_that_shapes_the_session_share_it(world):
    app = world.resolve("{command: server, env: {A: '${TOKEN}'}}")

    world.cwd = world.project
    world.env |= {"TERM": "dumb", "OTHER": "x", "PATH": f"{world.bin}:/nowhere", "TASAK_TOOL_RETRIES": "0"}
    other = world.resolve(timeout=5)

    assert app.fingerprint == other.fingerprint
    assert app.definition == other.definition


def test_each_thing_that_shapes_a_session_gives_another_one_of_the_same_definition(world, tmp_path):
    app = world.resolve("{command: server, cwd: caller, env: {A: '${TOKEN}'}}")

    named = world.resolve(session="mine")
    world.env["TOKEN"] = "other"
    other_value = world.resolve()
    world.cwd = world.project
    other_folder = world.resolve()
    world.program(tmp_path / "other" / "server")
    world.env["PATH"] = f"{tmp_path}/other"
    other_program = world.resolve()

    found = [app, named, other_value, other_folder, other_program]
    assert 5 == len({each.fingerprint for each in found})
    assert {app.definition} == {each.definition for each in found}


def test_an_edited_definition_is_another_one(world):
    app = world.resolve("{command: server, env: {A: s3cret}}")

    other = world.resolve("{command: server, env: {A: '${TOKEN}'}}")

    assert app.config.options == other.config.options
    assert app.definition != other.definition
    assert app.fingerprint != other.fingerprint


def test_another_app_in_the_same_file_may_change_without_a_word(world):
    app = world.resolve("{command: server}")

    other = world.resolve("{command: server}", more="  other: {command: x}\nsettings: {retries: 0}\n")

    assert app.fingerprint == other.fingerprint
