"""The docs against the code: what there is is named, what is named is there, and what is shown is what is printed."""

import ast
import dataclasses
import re
import shutil
import sys
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from itertools import takewhile
from pathlib import Path

import click
import pytest

from tasak import bodies, errors, wire
from tasak.cli.main import cli
from tasak.core.app_definition import COMMON_KEYS, FOREIGN_KEYS, TRANSPORTS, ToolRule
from tasak.core.arguments import BEFORE_APP
from tasak.core.config_loader import Loader
from tasak.core.gateway import Gateway
from tasak.core.keyring import Unread
from tasak.core.settings import KNOBS, MAX_CONNECTIONS
from tasak.errors import ConnectFailed
from tasak.paths import StateDir
from tasak.server import create_app
from tasak.service import Service
from tasak.transports import curated
from tasak.transports.child import INHERITED
from tasak.transports.registry import Registry
from tasak.transports.stdio import SCHEMA
from tests.shell import Shell
from tests.test_transcripts import run, steps

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
DECISIONS = sorted((ROOT / "docs" / "decisions").iterdir())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
CLI = (ROOT / "docs" / "cli.md").read_text()
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text()
HTTP_API = (ROOT / "docs" / "http-api.md").read_text()

# Exit statuses that are promised to future features: nothing ends with them yet.
KEPT: set[str] = set()
# `tasak … | head` ends like a program that SIGPIPE ended; no error of ours is behind it.
OF_THE_SHELL = {"0", "141"}

IMPORTED_AS = {
    "anyio": "mcp",
    "jwt": "mcp",
    "mcp_types": "mcp",
    "pydantic": "mcp",
    "prometheus_client": "prometheus-client",
    "referencing": "jsonschema",
    "yaml": "pyyaml",
}


# ── reading the pages ────────────────────────────────────────────────────────────────────────────────────────────


def section(text: str, title: str) -> str:
    """What stands under the heading, with the sections below it."""
    [(level, body)] = re.findall(rf"^(#+) {re.escape(title)}\n(.*?)(?=^#{{1,2}} |\Z)", text, re.MULTILINE | re.DOTALL)
    return body if len(level) < 3 else re.split(rf"^#{{1,{len(level)}}} ", body, maxsplit=1, flags=re.MULTILINE)[0]


def table(text: str, first: str) -> list[list[str]]:
    """The rows of the table whose first heading is `first`."""
    _, _, below = text.partition(f"\n| {first} |")
    rows = takewhile(lambda line: line.startswith("|"), below.split("\n")[2:])
    found = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert found, f"there is no table of {first}"
    return found


def first_column(text: str, first: str) -> set[str]:
    """All names that stand in the first column of the table."""
    return {name for row in table(text, first) for name in re.findall(r"`([^`]+)`", row[0])}


def plain(cell: str) -> str:
    return cell.strip().strip("`")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


# ── the HTTP API ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_route_has_a_section_with_a_request_and_no_other_has(tmp_path):
    gateway = Gateway(StateDir(tmp_path), environment={})
    app = create_app(Service(gateway=gateway, instance="", uptime=lambda: 0.0, stop=lambda: None))

    sections = re.findall(r"^## `([A-Z]+ /.*)`$", HTTP_API, re.MULTILINE)

    assert {f"{route.method} {route.resource.canonical}" for route in app.router.routes()} == set(sections)
    assert [] == [each for each in sections if "$ curl " not in section(HTTP_API, f"`{each}`")]


def test_the_table_of_errors_is_the_tree_of_errors():
    documented = [[plain(cell) for cell in row[:5]] for row in table(HTTP_API, "code")]

    expected = [
        [kind.code, str(kind.http_status), str(kind.exit_status), kind.outcome, kind.retry]
        for kind in errors.error_types()
    ]
    assert sorted(expected) == sorted(documented)


def test_every_field_of_a_body_is_named_with_the_bodies_that_take_it():
    documented = {plain(name): of for name, of, *_ in table(HTTP_API, "field")}

    expected = {name: "both" if name in bodies.LIST_FIELDS else "call" for name in bodies.CALL_FIELDS}
    assert expected == documented


def test_every_header_of_ours_is_named():
    headers = {value for name, value in vars(wire).items() if name.endswith("_HEADER")}

    assert headers == {plain(row[0]).partition(":")[0] for row in table(HTTP_API, "header")}


# ── the command line ─────────────────────────────────────────────────────────────────────────────────────────────


def test_every_exit_status_is_named():
    documented = dict(table(CLI, "status"))

    used = {str(kind.exit_status) for kind in errors.error_types()} | {str(errors.TOOL_ERROR_EXIT)} | OF_THE_SHELL
    assert used | KEPT == set(documented)
    assert {status for status, meaning in documented.items() if "kept for later" in meaning} == KEPT


def test_every_option_of_ours_is_known_where_it_is_misplaced():
    named = {name.removeprefix("--") for name in options(cli) if name.startswith("--")}

    assert named - {"help", "version"} == BEFORE_APP


def test_every_command_has_a_section_that_names_its_options():
    commands = dict(leaves(cli, "tasak"))

    assert set(commands) == set(re.findall(r"^### `(tasak .*)`$", CLI, re.MULTILINE))
    for path, command in commands.items():
        assert [] == [name for name in options(command) if f"`{name}" not in section(CLI, f"`{path}`")], path


def test_every_command_takes_json_behind_its_name_as_the_options_say():
    assert [] == [path for path, command in leaves(cli, "tasak") if "--json" not in options(command)]


def test_every_option_before_app_is_named():
    documented = {plain(name).split()[0] for row in table(CLI, "option") for name in row[0].split(",")}

    assert {*options(cli), "-h", "--help"} == documented


def test_every_word_of_ours_is_named():
    words = section(CLI, "Words").partition("\n###")[0]

    assert set(re.findall(r"`([a-z]+)`", words)) == wire.RESERVED


# ── the configuration ────────────────────────────────────────────────────────────────────────────────────────────


def test_the_table_of_knobs_is_that_of_the_code():
    documented = [[plain(cell) for cell in row[:6]] for row in table(CONFIGURATION, "key of an app")]

    expected = [
        [
            "none" if knob is MAX_CONNECTIONS else knob.name,
            knob.setting,
            knob.variable or "none",
            "" if knob.variable is None else "the daemon's" if knob.is_daemons else "the caller's",
            knob.measure.expected,
            f"{knob.default:g}" if knob.default is not None else "never" if knob.measure.has_never else "no bound",
        ]
        for knob in (*KNOBS, MAX_CONNECTIONS)
    ]
    assert expected == documented


def test_every_environment_variable_is_named():
    sources = "".join(path.read_text() for path in (ROOT / "tasak").rglob("*.py"))

    documented = {plain(row[0]) for row in table(CONFIGURATION, "variable")}
    assert set(re.findall(r"TASAK_[A-Z_]+", sources)) == documented


def test_every_key_of_an_app_is_named():
    rules = section(CONFIGURATION, "An app's keys")
    stdio = section(CONFIGURATION, "`stdio`")

    assert {knob.name for knob in KNOBS} | first_column(rules, "key") == COMMON_KEYS
    assert first_column(rules, "key under `tools: {NAME: …}`") == {rule.name for rule in dataclasses.fields(ToolRule)}
    assert first_column(stdio, "key") == set(SCHEMA["properties"])
    made = section(CONFIGURATION, "`curated`")
    assert first_column(made, "key of a tool") == set(curated.TOOL["properties"])
    assert first_column(made, "key of a step") == {
        *curated.STEP["then"]["properties"],
        *curated.STEP["else"]["properties"],
    }
    assert [] == [name for name in (*TRANSPORTS, *TRANSPORTS.values()) if f"`{name}`" not in rules]
    assert [] == [name for name in INHERITED if f"`{name}`" not in stdio]


def test_every_key_of_other_clients_is_named():
    listed = section(CONFIGURATION, "Keys of other clients")

    assert [] == [key for key in FOREIGN_KEYS if f"`{key}`" not in listed]


def test_every_file_of_the_state_folder_is_named():
    state = StateDir(Path("/"))
    paths = [getattr(state, name) for name, value in vars(StateDir).items() if isinstance(value, property)]

    files = {path.name for path in paths if isinstance(path, Path)} | {"logs/APP.log"}
    assert first_column(CONFIGURATION, "name") == files


@pytest.mark.parametrize("text", [pytest.param(text, id=page.name) for page in PAGES for text in blocks(page, "yaml")])
def test_a_config_that_is_shown_is_one_that_we_take(text, tmp_path):
    file = tmp_path / "tasak.yaml"
    file.write_text(text)
    loader = Loader(
        state_config=tmp_path / "none",
        home=tmp_path,
        schema_of=lambda name: Registry().transport(name).schema(),
        builtins={},
        daemon_env={},
    )

    variables = dict.fromkeys(re.findall(r"\$\{([A-Z_]+)\}", text), "value")
    for name in re.findall(r"\$\{file:(.+?)\}", text):
        (tmp_path / name).touch(0o600)
        (tmp_path / name).write_text("value")
    config = loader.load(tmp_path, {**variables, "TASAK_CONFIG": str(file)})

    assert () == config.notices
    for app in config.apps():
        assert app.error is None
        with suppress(ConnectFailed, Unread):  # neither the program nor the entry of the keyring need be here
            assert () == config.resolve(app.name).notices


# ── what is shown ────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_tour_prints_what_the_readme_says(shell):
    demo, _ = blocks(ROOT / "README.md", "console")

    assert [] == differences(shell, demo)


@pytest.mark.slow
@pytest.mark.node
@pytest.mark.timeout(180)
def test_the_tour_of_real_servers_prints_what_the_readme_says(shell):
    _, servers = blocks(ROOT / "README.md", "console")
    shell.env["TASAK_MCP_INIT_TIMEOUT"] = "240"  # a cold download on a busy machine
    shell.cwd = shell.home / "project"
    shell.cwd.mkdir()
    shell.cwd.joinpath("tasak.yaml").write_text(blocks(ROOT / "README.md", "yaml")[0])
    shell.cwd.joinpath("todo.txt").write_text("Buy milk.\n")

    assert [] == differences(shell, servers)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("curl"), reason="the requests in docs/http-api.md are for curl")
def test_the_daemon_answers_what_the_page_of_the_api_says(shell):
    page = ROOT / "docs" / "http-api.md"
    shell.home.joinpath(".tasak").mkdir(mode=0o700)
    shell.home.joinpath(".tasak", "tasak.yaml").write_text(blocks(page, "yaml")[0])
    shell.home.joinpath(".curlrc").write_text("silent\n")
    shell("demo", "counter")

    assert [] == differences(shell, "".join(blocks(page, "console")))


def differences(shell: Shell, transcript: str) -> list[str]:
    """The steps that print something else than the transcript, numbers and ids aside."""
    found = []
    ids: dict[str, str] = {}
    for command, expected in steps(transcript):
        for theirs, ours in ids.items():
            command = command.replace(theirs, ours)
        printed = run(shell, command)
        ids |= dict(zip(ids_of(expected), ids_of(printed), strict=False))
        if masked(expected) != masked(printed):
            found.append(f"$ {command}\n{printed}--- instead of\n{expected}")
    return found


def ids_of(text: str) -> list[str]:
    return re.findall(r'"id": "(\w+)"', text)


def masked(text: str) -> str:
    """The text without what differs from run to run, and from machine to machine."""
    text = re.sub(r"^Date: .*", "Date: …", text.replace("\r", ""), flags=re.MULTILINE)
    text = text.replace("/usr/bin/", "/bin/")
    text = re.sub(r"python[0-9.]*", "python", text)
    return re.sub(r"\b[0-9a-f]{8,16}\b|[0-9][0-9.]*", "#", text).rstrip("\n")


# ── the pages themselves ─────────────────────────────────────────────────────────────────────────────────────────


def test_the_two_commands_stand_first_each_on_one_line():
    first, *_ = blocks(ROOT / "README.md", "sh")

    assert [
        "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/tasak demo add --a 2 --b 3",
        ".venv/bin/pip install '.[test]' && .venv/bin/pytest",
    ] == first.splitlines()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page):
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if "://" not in link and not (target.exists() and (not anchor or anchor in anchors(target))):
            broken.append(link)

    assert [] == broken


def test_every_page_that_the_code_names_is_there():
    files = [ROOT / "pyproject.toml", *(ROOT / "tasak").rglob("*.py")]

    named = {name for file in files for name in re.findall(r"docs/[\w/.-]+\.md", file.read_text())}
    assert [] == [name for name in named if not (ROOT / name).exists()]


def test_the_decisions_are_numbered_and_say_context_choice_and_consequence():
    assert [f"{number:04}" for number in range(1, len(DECISIONS) + 1)] == [path.name[:4] for path in DECISIONS]
    for path in DECISIONS:
        text = path.read_text()
        assert text.startswith(f"# {int(path.name[:4])}. ")
        assert re.search(r"\bContext\b.*\bChoice\b.*\bConsequence\b", text, re.DOTALL), path.name
        assert f"docs/decisions/{path.name}" in README


def test_every_dependency_has_its_paragraph():
    paragraphs = re.findall(r"^## (.*)$", (ROOT / "docs/decisions/0002-dependencies.md").read_text(), re.MULTILINE)

    named = [re.match(r"[\w-]+", requirement)[0] for requirement in PROJECT["project"]["dependencies"]]
    assert [*named, "Consequence"] == paragraphs


def test_the_floors_are_those_that_are_held():
    [layers] = [each["layers"] for each in PROJECT["tool"]["importlinter"]["contracts"] if "layers" in each]

    held = [module for layer in layers for module in re.findall(r"\w+", layer)]
    assert held == [name for row in table(ARCHITECTURE, "floor") for name in re.findall(r"`tasak\.(.+?)`", row[1])]


def test_each_floor_names_what_it_imports_from_others():
    for floor, modules, named in table(ARCHITECTURE, "floor"):
        imported = {name for module in re.findall(r"`tasak\.(.+?)`", modules) for name in third_parties(module)}

        assert imported == set(re.findall(r"[\w-]+", named)) - {"none"}, floor


def third_parties(module: str) -> Iterator[str]:
    """The distributions that the module imports from, wherever in it."""
    path = ROOT / "tasak" / module
    for file in path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [each.name for each in node.names] if isinstance(node, ast.Import) else []
            for top in {str(name).partition(".")[0] for name in names} - sys.stdlib_module_names - {"tasak"}:
                yield IMPORTED_AS.get(top, top)


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def leaves(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        yield path, command
        return
    for name, inner in command.commands.items():
        yield from leaves(inner, f"{path} {name}")


def options(command: click.Command) -> set[str]:
    return {name for each in command.params if isinstance(each, click.Option) for name in each.opts}
