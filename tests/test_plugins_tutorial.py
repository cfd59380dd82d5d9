"""docs/plugins.md is done as a reader does it, from an empty folder; and it names all that a plugin can use.

A block of code belongs to the file that the paragraph before it names: `` `pyproject.toml`: `` writes it, and
`` At the end of `pyproject.toml`: `` adds to it. A `console` block is run, and prints what it says; what is started in
the second terminal goes on meanwhile. Of the `sh` blocks only what needs no network is done, or done without it.
"""

import dataclasses
import inspect
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import psutil
import pytest
from markdown_it import MarkdownIt

from tasak import plugin, testing
from tasak.plugin import TasakError
from tasak.testing import ContractPeer, TransportContract
from tasak.testing.promises.case import Ability
from tasak.transports import hookspecs
from tests.shell import Shell, hear_interrupts
from tests.test_docs import first_column, section, table
from tests.test_transcripts import run, steps

PAGE = (Path(__file__).parents[1] / "docs" / "plugins.md").read_text()

PROJECT = "tasak-socket"
SECOND_TERMINAL = "second terminal"

# The page's own tests open two hundred sessions, on a machine that is busy with others.
PATIENCE = 180.0

# Longer than anybody waits behind Ctrl-C.
INTERRUPT_TIMEOUT = 10.0

# What the page does with the network, from what is installed here.
PIP_INSTALL = (sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation")
BUILD = (sys.executable, "-m", "build", "--no-isolation")


# ── the tutorial ─────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code, and the paragraph right before it."""

    lead: str
    language: str
    text: str

    @property
    def file(self) -> str | None:
        found = re.fullmatch(r"(?:At the end of )?`(\S+)`:", self.lead)
        return found[1] if found else None

    @property
    def is_addition(self) -> bool:
        return self.lead.startswith("At the end of ")

    @property
    def ends_what_runs(self) -> bool:
        return self.lead.startswith("Stop the server")

    @property
    def goes_on_running(self) -> bool:
        return SECOND_TERMINAL in re.split(r"\.\s", self.lead)[-1]

    @property
    def is_contract(self) -> bool:
        return self.text.startswith("$ python -m pytest")


def blocks() -> Iterator[Block]:
    tokens = MarkdownIt().parse(PAGE)
    for at, token in enumerate(tokens):
        if token.type == "fence":
            has_lead = tokens[at - 1].type == "paragraph_close"
            yield Block(tokens[at - 2].content if has_lead else "", token.info, token.content)


class Reader:
    """Does what the page says, block by block. What the commands print instead of what it says is in `wrong`."""

    def __init__(self, shell: Shell) -> None:
        self.wrong: list[str] = []
        self._shell = shell
        self._folder = shell.home / PROJECT
        self._folder.mkdir()
        # As after `pip install -e`: the package's metadata, and its code where it is written.
        self._site = shell.home / "site"
        shell.env["PYTHONPATH"] = f"{self._folder / 'src'}:{self._site}"
        shell.cwd = self._folder
        self._second_terminal: subprocess.Popen[str] | None = None

    def do(self, block: Block) -> None:
        if block.ends_what_runs:
            self.end_what_runs()
        if block.file:
            self._write(block)
        elif block.language == "sh":
            self._prepare(block.text)
        elif block.language == "console" and block.goes_on_running:
            self._go_on_running(block.text)
        elif block.language == "console":
            self._run(block.text)

    def end_what_runs(self) -> None:
        """Ctrl-C in the second terminal; returns when all that ran there is gone."""
        if self._second_terminal is None:
            return
        with self._second_terminal as shell:
            running = session(shell.pid)
            os.killpg(shell.pid, signal.SIGINT)
            _, left = psutil.wait_procs(running, timeout=INTERRUPT_TIMEOUT)
            for process in left:
                process.kill()
            assert [] == left
        self._second_terminal = None

    def _write(self, block: Block) -> None:
        assert block.file
        file = self._folder / block.file
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(file.read_text() + block.text if block.is_addition else block.text)

    def _prepare(self, text: str) -> None:
        if "pip install -e" in text:
            self._call(*PIP_INSTALL, "--upgrade", "--target", str(self._site), ".")
        if "tasak daemon restart" in text:
            self._shell("daemon", "restart")
        if "python -m build" in text:
            self._call(*BUILD)

    def _call(self, *words: str) -> None:
        environment = {**self._shell.env, "PYTHONPATH": ""}
        done = subprocess.run(
            words, cwd=self._folder, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def _run(self, text: str) -> None:
        for command, expected in steps(text):
            self._compare(command, expected, run(self._shell, command))

    def _go_on_running(self, text: str) -> None:
        [(command, expected)] = steps(text)
        self._second_terminal = subprocess.Popen(
            ["sh", "-c", f"exec {command}"],
            env=self._shell.env,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            preexec_fn=hear_interrupts,
        )
        assert self._second_terminal.stdout
        printed = self._second_terminal.stdout.readline().replace(str(self._shell.home), "~")
        self._compare(command, expected, printed)

    def _compare(self, command: str, expected: str, printed: str) -> None:
        if unvarying(expected) != unvarying(printed):
            self.wrong.append(f"$ {command}\n{printed}--- instead of\n{expected}")


@pytest.fixture
def reader(shell: Shell) -> Iterator[Reader]:
    made = Reader(shell)
    yield made
    made.end_what_runs()


@pytest.mark.slow
def test_who_follows_the_page_has_transports_that_work(reader):
    for block in blocks():
        if not block.is_contract:
            reader.do(block)

    assert not reader.wrong, "\n".join(reader.wrong)


@pytest.mark.slow
@pytest.mark.timeout(3 * PATIENCE)
def test_what_the_page_builds_keeps_the_contract_and_can_be_published(reader, shell):
    for block in blocks():
        if block.file or block.is_contract or block.language == "sh":
            reader.do(block)

    assert not reader.wrong, "\n".join(reader.wrong)
    assert {"tasak_socket-0.1.0-py3-none-any.whl", "tasak_socket-0.1.0.tar.gz"} == {
        path.name for path in (shell.cwd / "dist").iterdir()
    }


def session(leader: int) -> list[psutil.Process]:
    """The processes of a terminal; what has ended and was not fetched is none."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, ProcessLookupError):
            continue
    return found


def unvarying(text: str) -> str:
    """The text without what differs from run to run, and with each new promise of the contract."""
    text = re.sub(r"^[.s]+ +\[100%\]$", "[100%]", text, flags=re.MULTILINE)
    text = re.sub(r"\d+(?= passed)|\d+(?= skipped)", "#", text)
    text = re.sub(r"\b[0-9a-f]{8}\b|[0-9.]+(?= m?s\b|s\b)|Errno \d+", "#", text)
    return text.rstrip("\n")


# ── the reference ────────────────────────────────────────────────────────────────────────────────────────────────

HOOKS = [hook for _, hook in inspect.getmembers(hookspecs, inspect.isfunction) if hook.__module__ == hookspecs.__name__]
TYPES = [getattr(plugin, name) for name in plugin.__all__ if inspect.isclass(getattr(plugin, name))]
ERRORS = [each for each in TYPES if issubclass(each, TasakError)]


def test_every_hook_has_its_section_with_its_arguments():
    headings = re.findall(r"^### `(\w+\(.*\))`$", PAGE, re.MULTILINE)

    assert sorted(f"{hook.__name__}{arguments(hook)}" for hook in HOOKS) == sorted(headings)


@pytest.mark.parametrize("kind", [each for each in TYPES if each not in ERRORS], ids=lambda kind: kind.__name__)
def test_every_member_of_a_class_is_in_its_table_with_its_arguments(kind):
    [title] = [title for title in re.findall(r"^### (.*)$", PAGE, re.MULTILINE) if f"`{kind.__name__}`" in title]
    text = section(PAGE, title)
    column = f"member of `{kind.__name__}`" if " and `Line" in title else "member"

    assert members(kind) == {name.replace('"', "'") for name in first_column(text, column)}


def test_every_error_is_in_the_table_with_its_outcome_and_exit_status():
    rows = table(section(PAGE, "Errors"), "error")

    documented = {row[0].strip("`"): (row[2], row[3]) for row in rows}
    assert documented == {
        kind.__name__: ("", "") if kind is TasakError else (kind.outcome.replace("_", " "), str(kind.exit_status))
        for kind in ERRORS
    }


@pytest.mark.parametrize("module", [plugin, testing], ids=lambda module: module.__name__)
def test_every_name_that_is_exported_is_on_the_page(module):
    children = [child for token in MarkdownIt().parse(PAGE) for child in token.children or []]
    named = {word for child in children if child.type == "code_inline" for word in re.findall(r"\w+", child.content)}

    assert [] == [name for name in module.__all__ if name not in named]


def test_every_knob_of_the_contract_is_in_its_table():
    text = section(PAGE, "`TransportContract`")
    knobs = {name for kind in TransportContract.__mro__ for name in vars(kind).get("__annotations__", {})}

    assert (knobs | {"peer"}) - {"folder"} == first_column(text, "attribute")
    assert {field.name for field in dataclasses.fields(ContractPeer)} == first_column(text, "member")
    assert [] == [name for name in get_args(Ability) if f"`{name}" not in text]


def members(kind: type) -> set[str]:
    """The public members that the class itself brings, functions with their arguments."""
    if issubclass(kind, Exception):
        return set(vars(kind("any")))
    fields = {*vars(kind).get("__annotations__", {})}
    functions = {f"{name}{arguments(each)}" for name, each in vars(kind).items() if inspect.isfunction(each)}
    properties = {name for name, each in vars(kind).items() if isinstance(each, property)}
    return {name for name in fields | functions | properties if not name.startswith("_")}


def arguments(function: Callable[..., Any]) -> str:
    """As they stand on the page: without types, and without `self`."""
    found = inspect.signature(function)
    plain = [each.replace(annotation=each.empty) for name, each in found.parameters.items() if name != "self"]
    return str(found.replace(parameters=plain, return_annotation=found.empty))
