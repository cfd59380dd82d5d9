"""The curated transport: from the config to the tools, and from a call to its steps."""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasak.core.app_options import TransportOptions
from tasak.core.signature import help_text, signature
from tasak.errors import (
    BadArguments,
    CallTimedOut,
    Cancelled,
    ConnectFailed,
    Denied,
    Draining,
    InputNeeded,
    InternalError,
    OutcomeUnknown,
    ServerError,
    SessionLost,
    SignInNeeded,
    TasakError,
    UnknownApp,
    UnknownTool,
)
from tasak.plugin import AppConfig, BadConfig, NotExecuted, OnProgress, Progress
from tasak.transports import curated
from tasak.transports.curated import CuratedSession
from tasak.transports.registry import hooks_of
from tests.core.pool import until

PATIENCE = 20.0
PATH = os.defpath

PYTHON = [sys.executable, "-I", "-S", "-c"]
SHOW = [*PYTHON, "import json, os, sys; print(json.dumps([os.fsencode(word).hex() for word in sys.argv[1:]]))"]

RELEASE = {
    "ship": {
        "description": "Tag a version and announce it",
        "parameters": {"type": "object", "properties": {"version": {"type": "string"}}, "required": ["version"]},
        "steps": [
            {"app": "git", "tool": "branch", "arguments": {"name": "release-${args.version}"}},
            {"command": ["./build.sh", "${args.version}"]},
            {"app": "chat", "tool": "post", "arguments": {"text": "built: ${steps.1.text}"}},
        ],
    }
}

Result = dict[str, Any]
Tool = Callable[[Mapping[str, Any], OnProgress], Awaitable[Result]]


def text_result(text: str, **more: Any) -> Result:
    return {"content": [{"type": "text", "text": text}], **more}


class Apps:
    """A host with apps whose tools are functions of the test. What it is given goes over a wire of JSON."""

    instance = "tree-1"

    def __init__(self, tools: Mapping[str, Tool]) -> None:
        self.ran: list[tuple[str, Any]] = []
        """What was called, in its order."""
        self._tools = tools

    async def call(
        self,
        app: str,
        tool: str,
        arguments: Mapping[str, Any],
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - as for `Session.request`
        on_progress: OnProgress | None = None,
    ) -> Result:
        name, given = f"{app} {tool}", json.loads(json.dumps(arguments))
        if name not in self._tools:
            raise UnknownTool(f"{app} has no tool {tool!r}", fix=f"`tasak {app}` lists its tools")
        self.ran.append((name, given))
        try:
            async with asyncio.timeout(timeout) as deadline:

                def heard(progress: Progress) -> None:
                    deadline.reschedule(None if timeout is None else asyncio.get_running_loop().time() + timeout)
                    if on_progress:
                        on_progress(progress)

                return json.loads(json.dumps(await self._tools[name](given, heard)))
        except TimeoutError:
            raise CallTimedOut(f"{name}: no answer within {timeout:g} s") from None


def answering(text: str = "", **more: Any) -> Tool:
    async def tool(given: Mapping[str, Any], on_progress: OnProgress) -> Result:
        return text_result(text, **more)

    return tool


def failing(problem: TasakError) -> Tool:
    async def tool(given: Mapping[str, Any], on_progress: OnProgress) -> Result:
        raise problem

    return tool


async def echo(given: Mapping[str, Any], on_progress: OnProgress) -> Result:
    return text_result(json.dumps(given), structuredContent=dict(given))


def app(tools: Mapping[str, Any], directory: Path | None = None, path: str = PATH) -> AppConfig:
    return AppConfig(name="release", options={"tools": tools}, directory=directory, path=path)


def tool(*steps: Mapping[str, Any], **described: Any) -> dict[str, Any]:
    """The tools of an app that has one, `do`, with these steps; its parameters are called `x`, `y` and `z`."""
    anything: dict[str, Any] = {"x": {}, "y": {}, "z": {}}
    return {"do": {"parameters": {"type": "object", "properties": anything}, "steps": list(steps), **described}}


def step(name: str, /, **arguments: Any) -> dict[str, Any]:
    app_name, tool_name = name.split()
    return {"app": app_name, "tool": tool_name, "arguments": arguments}


def command(*words: Any) -> dict[str, Any]:
    return {"command": list(words)}


def python(script: str, *words: Any) -> dict[str, Any]:
    return command(*PYTHON, script.replace("$", "$$"), *words)


@asynccontextmanager
async def connected(config: AppConfig, apps: Apps | None = None) -> AsyncIterator[CuratedSession]:
    async with asyncio.timeout(PATIENCE):
        session = curated.connect(config, apps or Apps({}))
        try:
            yield session
        finally:
            curated.close(session)


async def call(
    tools: Mapping[str, Any],
    arguments: Mapping[str, Any] | None = None,
    *,
    apps: Apps | None = None,
    name: str = "do",
    seconds: float = PATIENCE,
    on_progress: OnProgress | None = None,
    **where: Any,
) -> Result:
    async with connected(app(tools, **where), apps) as session:
        params = {"name": name, "arguments": arguments or {}}
        return await session.request("tools/call", params, timeout=seconds, on_progress=on_progress)


def text_of(result: Result) -> str:
    (block,) = result["content"]
    return block["text"]


def words_of(result: Result) -> list[str]:
    """The words that a command got, as `SHOW` shows them."""
    return [os.fsdecode(bytes.fromhex(word)) for word in json.loads(text_of(result))]


def marked(mark: str) -> list[int]:
    """The live processes with `mark` among their words."""
    found = []
    for process in psutil.process_iter():
        try:
            if mark in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the `build.sh` of the example."""
    script = tmp_path / "build.sh"
    script.write_text('#!/bin/sh\necho "build $1"\n')
    script.chmod(0o755)
    return tmp_path


# The config


def options(tools: Any) -> None:
    """Hold `tools` against the transport's schema, as the config does."""
    TransportOptions("curated", curated.transport_schema()).check({"tools": tools}, "app 'release'")


def test_the_tools_of_the_documentation_fit():
    options(RELEASE)
    options({"do": {"steps": [{"command": ["true", 1, 2.5]}], "retry": "safe", "read_only": True}})
    options({"do": {"steps": [{"app": "a", "tool": "b"}]}})
    options({})


@pytest.mark.parametrize(
    ("described", "reason"),
    [
        ({}, "'tools.do' lacks 'steps'"),
        ({"steps": []}, "'tools.do.steps' does not fit: minItems 1"),
        ({"steps": [{}]}, "'tools.do.steps.0' lacks 'app'"),
        ({"steps": [{"app": "a"}]}, "'tools.do.steps.0' lacks 'tool'"),
        ({"steps": [{"tool": "a"}]}, "'tools.do.steps.0' lacks 'app'"),
        (
            {"steps": [{"app": "a", "tool": "b", "command": ["c"]}]},
            "'tools.do.steps.0' has an unknown key: 'app', 'tool'",
        ),
        ({"steps": [{"command": ["c"], "arguments": {}}]}, "'tools.do.steps.0' has an unknown key: 'arguments'"),
        ({"steps": [{"app": "a", "tool": "b", "args": {}}]}, "'tools.do.steps.0' has an unknown key: 'args'"),
        ({"steps": [{"app": "a", "tool": "b", "arguments": []}]}, "'tools.do.steps.0.arguments' has to be a mapping"),
        ({"steps": [{"command": []}]}, "'tools.do.steps.0.command' does not fit: minItems 1"),
        ({"steps": [{"command": "make all"}]}, "'tools.do.steps.0.command' has to be a list"),
        ({"steps": [{"command": ["c", True]}]}, "'tools.do.steps.0.command.1' has to be a string or a number"),
        ({"steps": [{"command": ["c"]}], "shell": True}, "'tools.do' has an unknown key: 'shell'"),
        ({"steps": [{"command": ["c"]}], "retry": "often"}, '\'tools.do.retry\' has to be one of "safe", "never"'),
        ({"steps": [{"command": ["c"]}], "parameters": {"type": "array"}}, "'tools.do.parameters.type' does not fit"),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(described, reason):
    with pytest.raises(BadConfig) as raised:
        options({"do": described})

    assert raised.value.message.startswith(f"app 'release': {reason}")


def test_an_app_without_tools_and_one_with_a_key_too_many_are_refused():
    check = TransportOptions("curated", curated.transport_schema()).check

    with pytest.raises(BadConfig, match="lacks 'tools'"):
        check({}, "app 'release'")
    with pytest.raises(BadConfig, match="has an unknown key: 'env'"):
        check({"tools": {}, "env": {}}, "app 'release'")


def test_its_parts_are_the_apps_of_its_steps_each_once_and_in_order():
    other = {"steps": [step("wiki note"), step("git log"), command("true")]}

    assert ["git", "chat", "wiki"] == list(curated.parts({"tools": {**RELEASE, "log": other}}))
    assert [] == list(curated.parts({"tools": {"do": {"steps": [command("true")]}}}))


def test_it_is_a_plugin_like_any_other():
    hooks = hooks_of(curated, "curated")

    assert curated.SCHEMA == hooks["transport_schema"]()
    assert ["git"] == hooks["parts"](options={"tools": tool(step("git log"))})


CLOSED = {
    "type": "object",
    "properties": {"a": {"type": "object", "properties": {"b": {}}}, "items": {"type": "array"}},
}


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("${env.HOME}", "${env.HOME} is no template"),
        ("${HOME}", "${HOME} is no template"),
        ("${args}", "${args} is no template"),
        ("${steps}", "${steps} is no template"),
        ("${steps.0}", "${steps.0} is no template"),
        ("${steps.0.status}", "${steps.0.status} is no template"),
        ("${steps.0.text.0}", "${steps.0.text.0} is no template"),
        ("${args.", "'${args.' is no template"),
        ("${}", "'${}' is no template"),
        ("${steps.2.text}", "${steps.2.text} is of no earlier step"),
        ("${steps.3.text}", "${steps.3.text} is of no earlier step"),
        ("${steps.-1.text}", "${steps.-1.text} is of no earlier step"),
        ("${steps.00.text}", "${steps.00.text} is of no earlier step"),
        ("${steps.one.text}", "${steps.one.text} is of no earlier step"),
        ("${steps.1.structured}", "${steps.1.structured}: a command has only text"),
        ("${steps.1.structured.a}", "${steps.1.structured.a}: a command has only text"),
        ("${args.missing}", "${args.missing} is no parameter"),
        ("${args.a.c}", "${args.a.c} is no parameter"),
    ],
)
@pytest.mark.parametrize("place", ["argument", "word"])
def test_a_template_that_nothing_will_fill_is_refused_when_the_app_is_connected_to(template, reason, place):
    first = (step("git log"), command("true"))
    last = (
        step("git log", deep=[{"text": f"a {template}"}]) if place == "argument" else command("echo", f"a {template}")
    )

    with pytest.raises(BadConfig) as raised:
        curated.connect(app(tool(*first, last, parameters=CLOSED)), Apps({}))

    assert f"release: tool 'do', step 2: {reason}" == raised.value.message
    assert raised.value.fix is not None


@pytest.mark.parametrize(
    ("parameters", "template"),
    [
        (CLOSED, "${args.a.b}"),
        (CLOSED, "${args.a.b.c.0}"),
        (CLOSED, "${args.items.0.name}"),
        ({**CLOSED, "additionalProperties": True}, "${args.other}"),
        ({**CLOSED, "additionalProperties": {}}, "${args.other}"),
        ({**CLOSED, "patternProperties": {"^o": {}}}, "${args.other}"),
        ({"allOf": [{"properties": {"other": {}}}]}, "${args.other}"),
        ({"properties": {"a": True}}, "${args.a.b}"),
    ],
)
def test_a_template_of_what_the_parameters_may_hold_is_taken(parameters, template):
    assert curated.connect(app(tool(command("echo", template), parameters=parameters)), Apps({}))


@pytest.mark.parametrize("parameters", [{"type": "object"}, {**CLOSED, "additionalProperties": False}])
def test_parameters_that_name_none_have_none(parameters):
    with pytest.raises(BadConfig, match="is no parameter"):
        curated.connect(app(tool(command("echo", "${args.x}"), parameters=parameters)), Apps({}))


def test_a_tool_without_parameters_takes_no_template_of_one():
    with pytest.raises(BadConfig, match="is no parameter") as raised:
        curated.connect(app({"do": {"steps": [command("echo", "${args.x}")]}}), Apps({}))

    assert "declare it; the parameters are: none" == raised.value.fix


@pytest.mark.parametrize(
    ("tools", "where"),
    [
        (tool(command("true"), description="of ${args.x}"), "tool 'do', its description"),
        (tool(command("true"), parameters={"description": "${args.x}"}), "tool 'do', its parameters"),
        (tool({"app": "${args.x}", "tool": "log"}), "tool 'do', step 0"),
        (tool({"app": "git", "tool": "${args.x}"}), "tool 'do', step 0"),
    ],
)
def test_a_template_where_none_is_filled_in_is_refused(tools, where):
    with pytest.raises(BadConfig) as raised:
        curated.connect(app(tools), Apps({}))

    assert f"release: {where}: ${{args.x}} is not filled in here" == raised.value.message


@pytest.mark.parametrize("schema", [{"properties": {"a": {"type": "strange"}}}, {"properties": []}, {"required": "a"}])
def test_parameters_that_are_no_json_schema_are_refused(schema):
    with pytest.raises(BadConfig, match="release: tool 'do': its parameters are no JSON Schema: "):
        curated.connect(app(tool(command("true"), parameters=schema)), Apps({}))


# The tools


async def list_tools(tools: Mapping[str, Any]) -> list[dict[str, Any]]:
    async with connected(app(tools)) as session:
        return (await session.request("tools/list", None, timeout=PATIENCE))["tools"]


async def test_its_tools_are_listed_as_the_config_describes_them():
    plain = {"steps": [command("true")], "retry": "safe", "read_only": True}

    listed = await list_tools({**RELEASE, "plain": plain})

    ship = RELEASE["ship"]
    assert [
        {"name": "ship", "description": ship["description"], "inputSchema": ship["parameters"]},
        {"name": "plain", "inputSchema": {"type": "object", "properties": {}}},
    ] == listed


async def test_the_list_and_the_help_that_a_reader_sees_have_their_parameters():
    (ship,) = await list_tools(RELEASE)

    assert "ship(version: string) - Tag a version and announce it" == signature(ship)
    assert "tasak release ship --version text" in help_text("release", ship)


async def test_dollars_of_descriptions_and_parameters_are_the_configs():
    parameters = {"properties": {"x": {"pattern": "^a$", "description": "$$5, not $${args.x}"}}}

    (listed,) = await list_tools(tool(command("true"), description="costs $$5", parameters=parameters))

    assert "costs $5" == listed["description"]
    assert {"pattern": "^a$", "description": "$5, not ${args.x}"} == listed["inputSchema"]["properties"]["x"]
    assert "object" == listed["inputSchema"]["type"]


# What a tool takes


async def test_arguments_that_the_parameters_do_not_take_are_refused_before_any_step_runs():
    apps = Apps({"git log": answering()})
    parameters = {
        "properties": {"x": {"type": "string", "pattern": "^v[0-9]+$"}, "y": {"items": {"maximum": 3}}},
        "required": ["x"],
        "additionalProperties": False,
    }
    tools = tool(step("git log"), parameters=parameters)

    for arguments, reason in [
        ({}, "'x' is a required property"),
        ({"x": "v1; rm"}, "x: 'v1; rm' does not match '^v[0-9]+$'"),
        ({"x": "v1", "y": [1, 4]}, "y: 1: 4 is greater than the maximum of 3"),
        ({"x": "v1", "z": 1}, "Additional properties are not allowed ('z' was unexpected)"),
    ]:
        with pytest.raises(BadArguments) as raised:
            await call(tools, arguments, apps=apps)
        assert reason == raised.value.message

    assert [] == apps.ran


async def test_parameters_that_refer_to_nowhere_are_named_and_nothing_is_fetched():
    parameters = {"properties": {"x": {"$ref": "https://example.invalid/schema"}}}

    with pytest.raises(BadConfig, match="its parameters cannot be understood: "):
        await call(tool(command("true"), parameters=parameters), {"x": 1})


async def test_an_argument_that_is_not_given_has_its_default():
    parameters = {"properties": {"x": {"type": "string", "default": "stage"}, "y": {"default": None}, "z": True}}
    words = [*SHOW, "${args.x}", "${args.y}", "${args.z}"]

    assert ["stage", "null", ""] == words_of(await call(tool(command(*words), parameters=parameters)))
    assert ["prod", "", "1"] == words_of(
        await call(tool(command(*words), parameters=parameters), {"x": "prod", "y": "", "z": 1})
    )


# Values

STRANGE = "zażółć \U0001f600 $HOME $$ ${args.y} ${steps.0.text} '\"; ls\n\tlast \\"


@pytest.mark.parametrize(
    "value",
    [2**53 + 1, -1, 1.5, True, None, "", STRANGE, "a\0b", [1, ["two"]], {"k": {"deep": [None]}}],
    ids=repr,
)
async def test_a_value_stays_a_value_where_the_template_is_the_whole_text(value):
    apps = Apps({"git log": echo})

    await call(tool(step("git log", a="${args.x}", b={"c": ["${args.x}"]})), {"x": value}, apps=apps)

    assert [("git log", {"a": value, "b": {"c": [value]}})] == apps.ran
    assert type(value) is type(apps.ran[0][1]["a"])


async def test_in_a_longer_text_a_value_is_text():
    apps = Apps({"git log": echo})
    arguments = {"x": STRANGE, "y": 2**53 + 1, "z": ["ż", None]}

    await call(tool(step("git log", a="<${args.x}>", b="${args.y}${args.z}$$")), arguments, apps=apps)

    assert [("git log", {"a": f"<{STRANGE}>", "b": '9007199254740993["ż", null]$'})] == apps.ran


async def test_an_argument_that_is_not_given_leaves_its_key_out_and_no_text_in_a_longer_one():
    apps = Apps({"git log": echo})
    given = step("git log", a="${args.x}", b={"c": "${args.x.deep}", "d": 1}, e="<${args.x}>", f=["${args.x}", 2])

    await call(tool(given), apps=apps)

    assert [("git log", {"b": {"d": 1}, "e": "<>", "f": [2]})] == apps.ran


async def test_each_word_of_a_command_is_one_word_whatever_the_value():
    words = [*SHOW, "${args.x}", "v=${args.x}", "${args.y}", "${args.z}", 7, 1.5, "$$HOME", "*"]

    result = await call(tool(command(*words)), {"x": STRANGE, "y": ["a b", 2**53 + 1]})

    assert [
        STRANGE, f"v={STRANGE}", '["a b", 9007199254740993]', "", "7", "1.5", "$HOME", "*",
    ] == words_of(result)  # fmt: skip


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
async def test_a_value_that_no_command_line_can_have_is_refused(text, tmp_path):
    witness = tmp_path / "ran"

    with pytest.raises(BadArguments, match=r"step 0 of do \(touch\): "):
        await call(tool(command("touch", str(witness), "${args.x}")), {"x": text})

    assert not witness.exists()


async def test_later_steps_use_what_earlier_ones_have_answered():
    content = [
        {"type": "text", "text": "a"},
        {"type": "image", "data": "", "mimeType": "x"},
        {"type": "text", "text": "b"},
    ]
    structured = {"id": 2**53 + 1, "tags": ["x", {"n": None}], "text": "${steps.0.text} ${args.x} $$"}

    async def make(given: Mapping[str, Any], on_progress: OnProgress) -> Result:
        return {"content": content, "structuredContent": structured}

    apps = Apps({"git make": make, "git log": echo})
    tools = tool(
        step("git make"),
        python("print('one\\ntwo\\n')"),
        step(
            "git log",
            text="${steps.0.text}",
            out="${steps.1.text}",
            both="${steps.0.text}/${steps.1.text}",
            all="${steps.0.structured}",
            id="${steps.0.structured.id}",
            none="${steps.0.structured.tags.1.n}",
            verbatim="${steps.0.structured.text}",
        ),
    )

    await call(tools, apps=apps)

    expected = {
        "text": "a\nb",
        "out": "one\ntwo\n",
        "both": "a\nb/one\ntwo\n",
        "all": structured,
        "id": 2**53 + 1,
        "none": None,
        "verbatim": structured["text"],
    }
    assert ("git log", expected) == apps.ran[-1]


@pytest.mark.parametrize("result", [{}, {"structuredContent": None}, {"structuredContent": {"id": []}}])
async def test_a_step_whose_value_is_not_in_what_an_earlier_one_answered_fails_before_it_runs(result):
    async def make(given: Mapping[str, Any], on_progress: OnProgress) -> Result:
        return {"content": [], **result}

    apps = Apps({"git make": make, "git delete": echo})

    failed = await call(tool(step("git make"), step("git delete", id="${steps.0.structured.id.0}")), apps=apps)

    assert [("git make", {})] == apps.ran
    assert failed["isError"] is True
    assert (
        "step 1 of do (git delete) failed: there is no ${steps.0.structured.id.0} in what that step answered\n"
        "ran before it: step 0 (git make)"
    ) == text_of(failed)


@pytest.mark.parametrize(
    "result", [{}, {"content": None}, {"content": ["x", {"type": "text"}, {"type": "text", "text": 1}]}]
)
async def test_a_result_without_text_has_no_text(result):
    async def make(given: Mapping[str, Any], on_progress: OnProgress) -> Result:
        return dict(result)

    apps = Apps({"git make": make, "git log": echo})

    await call(tool(step("git make"), step("git log", text="${steps.0.text}")), apps=apps)

    assert ("git log", {"text": ""}) == apps.ran[-1]


# The steps


async def test_the_example_of_the_documentation_runs(project):
    apps = Apps(
        {"git branch": answering("made"), "chat post": answering("posted", structuredContent={"id": 7}, _meta={})}
    )

    result = await call(RELEASE, {"version": "1.2"}, apps=apps, name="ship", directory=project)

    assert [("git branch", {"name": "release-1.2"}), ("chat post", {"text": "built: build 1.2"})] == apps.ran
    assert text_result("posted", structuredContent={"id": 7}, _meta={}) == result


async def test_the_result_of_a_command_is_its_stdout_without_the_final_newline():
    script = (
        "import sys; sys.stdout.buffer.write('ż\\n\\n'.encode() + bytes([255]) + b'\\n'); sys.stderr.write('noise')"
    )

    assert text_result("ż\n\n\N{REPLACEMENT CHARACTER}") == await call(tool(python(script)))
    assert text_result("") == await call(tool(command("true")))


async def test_steps_run_one_after_the_other(tmp_path):
    async def look(given: Mapping[str, Any], on_progress: OnProgress) -> Result:
        return text_result(" ".join(sorted(os.listdir(tmp_path))))

    tools = tool(
        command("touch", "a"), step("app look"), command("mv", "a", "b"), step("app look"),
        command("echo", "${steps.1.text} ${steps.3.text}"),
    )  # fmt: skip

    assert text_result("a b") == await call(tools, apps=Apps({"app look": look}), directory=tmp_path)


async def test_a_command_runs_where_the_app_does_with_the_environment_of_its_programs(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "s3cret")
    monkeypatch.setenv("HOME", "/h")
    script = "import json, os; print(json.dumps([os.getcwd(), dict(os.environ)]))"

    directory, environment = json.loads(text_of(await call(tool(python(script)), directory=tmp_path, path="/bin")))

    assert str(tmp_path.resolve()) == directory
    assert ("/h", "/bin") == (environment["HOME"], environment["PATH"])
    assert environment["TASAK_TREE"].startswith("tree-1")
    assert "SECRET" not in environment


async def test_a_program_is_looked_for_on_the_callers_path_and_one_with_a_slash_where_the_app_runs(project):
    assert text_result("build 1") == await call(tool(command("./build.sh", "1")), directory=project)
    assert text_result("build 2") == await call(tool(command("build.sh", "2")), path=str(project))


# Failures


async def failure_after(*steps: Mapping[str, Any], **tools: Tool) -> str:
    """The text of a call that fails, after a first step that does not, with tools of the app `app`."""
    apps = Apps({"git log": answering("logged"), **{f"app {name}": made for name, made in tools.items()}})
    result = await call(tool(step("git log"), *steps, step("git log")), apps=apps)
    assert result["isError"] is True
    assert 1 == [name for name, _ in apps.ran].count("git log")
    return text_of(result)


async def test_a_tool_that_says_error_stops_the_call_with_its_text():
    text = await failure_after(step("app post"), post=answering("no such\nchannel", isError=True))

    assert "step 1 of do (app post) failed: no such\nchannel\nran before it: step 0 (git log)" == text


async def test_a_tool_that_says_error_and_no_more_stops_it_too():
    async def post(given: Mapping[str, Any], on_progress: OnProgress) -> Result:
        return {"content": [], "isError": True}

    text = await failure_after(step("app post"), post=post)

    assert "step 1 of do (app post) failed: the tool says so, and no more\nran before it: step 0 (git log)" == text


async def test_the_first_step_may_fail_too():
    result = await call(tool(step("app post")), apps=Apps({"app post": answering("no", isError=True)}))

    assert text_result("step 0 of do (app post) failed: no\nran before it: nothing", isError=True) == result


async def test_a_command_that_fails_stops_it_with_its_status_and_its_last_words():
    script = "import sys; print('out'); [print('line', n, file=sys.stderr) for n in range(20)]; sys.exit(3)"

    text = await failure_after(command("true"), python(script))

    name = Path(sys.executable)
    lines = "\n".join(f"  | line {number}" for number in range(10, 20))
    expected = f"step 2 of do ({name}) failed: exit status 3\n{lines}\nran before it: step 0 (git log), step 1 (true)"
    assert expected == text


async def test_the_last_words_of_a_command_are_on_stdout_where_stderr_is_empty():
    text = await failure_after(command("sh", "-c", "echo out; exit 1"))

    assert "step 1 of do (sh) failed: exit status 1\n  | out\nran before it: step 0 (git log)" == text


async def test_the_last_words_of_a_command_can_do_no_harm():
    script = "import os, sys; os.write(2, bytes([27]) + b']0;x' + bytes([7, 10, 255, 10]) + b'x' * 5000); sys.exit(1)"

    text = await failure_after(python(script))

    assert "  | \\x1b]0;x\\x07\n  | \N{REPLACEMENT CHARACTER}\n  | xxx" in text
    assert len(text) < 1000


async def test_a_command_that_was_killed_is_told_so():
    text = await failure_after(command("sh", "-c", "kill -9 $$$$"))

    assert "step 1 of do (sh) failed: killed by SIGKILL\nran before it: step 0 (git log)" == text


async def test_a_command_that_writes_too_much_fails_saying_so():
    text = await failure_after(command("yes"))

    assert "step 1 of do (yes) failed: it wrote more than 16 MiB on stdout\nran before it: step 0 (git log)" == text


@pytest.mark.parametrize(
    "problem",
    [
        ServerError("app post: refused (JSON-RPC error -32000)"),
        InputNeeded("app post: it asks a question"),
        ConnectFailed("app: npx exited with status 1"),
        Draining("the daemon is stopping"),
        UnknownApp("there is no app 'app'"),
        Denied("app: the config does not allow post"),
        SignInNeeded("app: nobody is signed in"),
    ],
    ids=lambda problem: problem.code,
)
async def test_a_later_step_that_is_known_to_have_failed_is_a_result_that_says_so(problem):
    text = await failure_after(step("app post"), post=failing(problem))

    assert f"step 1 of do (app post) failed: {problem.message}\nran before it: step 0 (git log)" == text


async def test_what_to_do_about_a_failed_step_is_said():
    text = await failure_after(step("app post"), post=failing(SignInNeeded("app: nobody is signed in", fix="sign in")))

    expected = "step 1 of do (app post) failed: app: nobody is signed in\nfix: sign in\nran before it: step 0 (git log)"
    assert expected == text


async def test_a_later_command_that_cannot_be_started_is_a_result_that_says_so(tmp_path):
    text = await failure_after(command("./nothing"))

    assert text.startswith("step 1 of do (./nothing) failed: there is no program './nothing'\nfix: is it there")


async def test_a_later_command_with_a_nul_in_a_word_is_a_result_that_says_so():
    text = await failure_after(step("app make"), command("echo", "${steps.1.text}"), make=answering("a\0b"))

    assert "step 2 of do (echo) failed: 'a\\x00b' has a NUL in it" in text


@pytest.mark.parametrize(
    "problem",
    [
        ConnectFailed("git: npx exited with status 1", fix="try it by hand"),
        Draining("the daemon is stopping"),
        NotExecuted("git log: not sent"),
        UnknownApp("there is no app 'git'", fix="did you mean 'gti'?"),
        BadArguments("git log: missing --name"),
        Denied("git: the config does not allow log"),
        SignInNeeded("git: nobody is signed in", fix="tasak auth login git"),
    ],
    ids=lambda problem: problem.code,
)
async def test_where_nothing_ran_the_failure_of_the_first_step_is_the_calls_own(problem):
    with pytest.raises(type(problem)) as raised:
        await call(tool(step("git log"), step("git log")), apps=Apps({"git log": failing(problem)}))

    assert type(problem) is type(raised.value)
    assert (f"step 0 of do (git log): {problem.message}", problem.fix) == (raised.value.message, raised.value.fix)


async def test_a_tool_that_the_first_app_does_not_have_is_the_calls_own_failure():
    with pytest.raises(UnknownTool, match=r"step 0 of do \(git log\): git has no tool 'log'"):
        await call(tool(step("git log")), apps=Apps({}))


async def test_a_first_command_that_cannot_be_started_is_the_calls_own_failure():
    with pytest.raises(ConnectFailed, match=r"step 0 of do \(nothing\): there is no program 'nothing'"):
        await call(tool(command("nothing")), path="/nowhere")


@pytest.mark.parametrize(
    ("problem", "kind"),
    [
        (OutcomeUnknown("app post: the connection was lost"), OutcomeUnknown),
        (SessionLost("app post: node exited with status 1", fix="look"), SessionLost),
        (CallTimedOut("app post: no answer within 30 s"), CallTimedOut),
        (InternalError("a bug"), OutcomeUnknown),
        (Cancelled("the caller went away"), OutcomeUnknown),
    ],
    ids=lambda value: getattr(value, "code", ""),
)
async def test_where_it_is_not_known_whether_a_step_ran_the_call_says_so(problem, kind):
    apps = Apps({"git log": answering(), "app post": failing(problem)})

    with pytest.raises(OutcomeUnknown) as raised:
        await call(tool(step("git log"), step("app post"), step("git log")), apps=apps)

    assert (kind, problem.fix) == (type(raised.value), raised.value.fix)
    assert f"step 1 of do (app post): {problem.message}\nran before it: step 0 (git log)" == raised.value.message
    assert ["git log", "app post"] == [name for name, _ in apps.ran]


# Progress and time


async def test_progress_is_told_after_each_step_but_the_last_and_passed_on_from_within():
    async def post(given: Mapping[str, Any], on_progress: OnProgress) -> Result:
        on_progress(Progress(progress=1, total=4, message="uploading"))
        on_progress(Progress(progress=2, total=4, message=None))
        on_progress(Progress(progress=3.5, total=None, message=None))
        return text_result("posted")

    told: list[Progress] = []

    await call(
        tool(command("true"), step("chat post"), step("chat post")),
        apps=Apps({"chat post": post}),
        on_progress=told.append,
    )

    def from_within(number: int) -> list[tuple[float, str]]:
        return [(number, f"step {number} of do (chat post): {said}") for said in ("uploading", "2 of 4", "3.5")]

    assert {3} == {each.total for each in told}
    assert [
        (1, "step 0 (true) is done"), *from_within(1), (2, "step 1 (chat post) is done"), *from_within(2),
    ] == [(each.progress, each.message) for each in told]  # fmt: skip


async def test_a_call_of_one_step_has_no_progress_of_its_own():
    told: list[Progress] = []

    await call(tool(command("true")), on_progress=told.append)

    assert [] == told


@pytest.mark.slow
async def test_the_time_starts_anew_at_each_step_and_at_each_progress():
    async def slow(given: Mapping[str, Any], on_progress: OnProgress) -> Result:
        for number in range(3):
            await asyncio.sleep(0.5)
            on_progress(Progress(progress=number, total=3, message=None))
        return text_result("done")

    began = time.monotonic()

    result = await call(tool(command("sleep", "0.5"), step("app slow")), apps=Apps({"app slow": slow}), seconds=1.0)

    assert text_result("done") == result
    assert time.monotonic() - began > 2.0


async def silent(given: Mapping[str, Any], on_progress: OnProgress) -> Result:
    await asyncio.Event().wait()
    raise AssertionError("nobody sets it")


@pytest.mark.parametrize(
    ("slow", "reason"),
    [
        (step("app silent"), "step 1 of do (app silent): app silent: no answer within 0.2 s"),
        (command("sleep", "1000"), "step 1 of do (sleep): it was not done within 0.2 s, and was ended"),
    ],
)
async def test_a_step_that_is_silent_for_too_long_ends_the_call_as_unknown(slow, reason):
    apps = Apps({"app quick": answering(), "app silent": silent})

    with pytest.raises(CallTimedOut) as raised:
        await call(tool(step("app quick"), slow, step("app quick")), apps=apps, seconds=0.2)

    assert f"{reason}\nran before it: step 0 (app quick)" == raised.value.message
    assert 1 == [name for name, _ in apps.ran].count("app quick")


def lingering(told: Path, mark: str) -> dict[str, Any]:
    """A command with a child in the background, both of them marked, that says when they are there, and stays."""
    script = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(1000)", sys.argv[2]])
open(sys.argv[1], "w").close()
time.sleep(1000)
"""
    return python(script, str(told), mark)


@pytest.fixture
def told(tmp_path: Path) -> Path:
    """A named pipe: to read it is to wait for whoever tells something."""
    path = tmp_path / "told"
    os.mkfifo(path)
    return path


async def test_a_call_that_is_cancelled_takes_its_commands_whole_group_with_it(told):
    mark = f"mark-{told}"
    after = told.with_name("after")
    calling = asyncio.create_task(call(tool(lingering(told, mark), command("touch", str(after)))))
    await asyncio.to_thread(told.read_text)
    await until(lambda: 2 == len(marked(mark)))

    calling.cancel()
    await asyncio.wait([calling])

    assert calling.cancelled()
    await until(lambda: [] == marked(mark))
    assert not after.exists()


@pytest.mark.slow
async def test_a_command_whose_time_is_over_goes_with_its_whole_group(told):
    mark = f"mark-{told}"
    calling = asyncio.create_task(call(tool(lingering(told, mark)), seconds=2.0))
    await asyncio.to_thread(told.read_text)
    await until(lambda: 2 == len(marked(mark)))

    with pytest.raises(CallTimedOut):
        await calling

    await until(lambda: [] == marked(mark))


async def test_a_call_that_is_cancelled_cancels_the_tool_that_is_under_way():
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def slow(given: Mapping[str, Any], on_progress: OnProgress) -> Result:
        begun.set()
        try:
            return await silent(given, on_progress)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    apps = Apps({"app slow": slow, "app next": answering()})
    calling = asyncio.create_task(call(tool(step("app slow"), step("app next")), apps=apps))
    await begun.wait()

    calling.cancel()
    await asyncio.wait([calling])

    assert cancelled.is_set()
    assert [("app slow", {})] == apps.ran


# The session


async def test_fifty_calls_at_once_do_not_disturb_each_other():
    here = psutil.Process()
    await call(tool(command("true")))
    tasks, descriptors = asyncio.all_tasks(), here.num_fds()
    tools = tool(
        step("git log", n="${args.x}"),
        command("echo", "${args.x}"),
        step("git log", n="${args.x}", out="${steps.1.text}", before="${steps.0.structured.n}"),
    )
    progress: dict[int, list[float]] = {number: [] for number in range(50)}

    async with connected(app(tools), Apps({"git log": echo})) as session:
        results = await asyncio.gather(
            *(
                session.request(
                    "tools/call",
                    {"name": "do", "arguments": {"x": number}},
                    timeout=PATIENCE,
                    on_progress=lambda said, number=number: progress[number].append(said.progress),
                )
                for number in range(50)
            )
        )

    expected = [{"n": number, "out": str(number), "before": number} for number in range(50)]
    assert expected == [result["structuredContent"] for result in results]
    assert [[1, 2]] * 50 == list(progress.values())
    await until(lambda: (tasks, descriptors) == (asyncio.all_tasks(), here.num_fds()))
    assert [] == here.children()


async def test_one_call_that_fails_or_is_cancelled_leaves_its_neighbours_alone():
    release = asyncio.Event()

    async def wait(given: Mapping[str, Any], on_progress: OnProgress) -> Result:
        if given["n"] == 1:
            raise ServerError("no")
        await release.wait()
        return text_result(str(given["n"]))

    async with connected(app(tool(step("app wait", n="${args.x}"))), Apps({"app wait": wait})) as session:
        calls = [
            asyncio.create_task(
                session.request("tools/call", {"name": "do", "arguments": {"x": number}}, timeout=PATIENCE)
            )
            for number in range(3)
        ]
        assert (await calls[1])["isError"] is True
        calls[0].cancel()
        await asyncio.wait([calls[0]])
        release.set()

        assert text_result("2") == await calls[2]


async def test_what_it_does_not_know_is_answered_as_a_server_would():
    async with connected(app(RELEASE)) as session:
        with pytest.raises(ServerError, match=r"there is no method 'prompts/list' \(JSON-RPC error -32601\)"):
            await session.request("prompts/list", None, timeout=PATIENCE)
        with pytest.raises(ServerError, match=r"there is no tool 'shop' \(JSON-RPC error -32602\)"):
            await session.request("tools/call", {"name": "shop"}, timeout=PATIENCE)


async def test_it_answers_a_ping_and_ends_only_when_it_is_closed_however_often():
    async with connected(app(RELEASE)) as session:
        await curated.ping(session)

        assert not session.ended.is_set()
        assert (None, None, None, ()) == (
            session.pid,
            session.protocol_version,
            session.server_info,
            session.last_words(),
        )

        curated.close(session)
        curated.close(session)

        assert session.ended.is_set()
        with pytest.raises(NotExecuted):
            await session.request("tools/call", {"name": "ship", "arguments": {"version": "1"}}, timeout=PATIENCE)


async def test_closing_ends_no_call_that_is_under_way():
    begun, release = asyncio.Event(), asyncio.Event()

    async def wait(given: Mapping[str, Any], on_progress: OnProgress) -> Result:
        begun.set()
        await release.wait()
        return text_result("done")

    apps = Apps({"app wait": wait})
    async with connected(app(tool(step("app wait"), step("app wait"))), apps) as session:
        calling = asyncio.create_task(session.request("tools/call", {"name": "do"}, timeout=PATIENCE))
        await begun.wait()
        curated.close(session)
        release.set()

        assert text_result("done") == await calling
