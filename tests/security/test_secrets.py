"""Values that are secrets: hidden in a program, and read from files and from the keyring."""

import asyncio
import dataclasses
import json
import os
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import keyring
import pytest
import yaml
from keyring.backend import KeyringBackend

from tasak.core.app import App
from tasak.core.call_record import Ending
from tasak.core.config_loader import Loader
from tasak.core.gateway import Gateway
from tasak.core.keyring import BELIEVED, Keyring, Unread
from tasak.errors import BadArguments, BadConfig
from tasak.paths import StateDir
from tasak.plugin import AppConfig
from tasak.request import Request
from tasak.secret import HIDDEN, Secret
from tasak.transports import mcp_remote
from tests.security.people import OWNER, Home, as_root
from tests.shell import FAST_APP

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "command": {"format": "command", "type": ["string", "array"]},
        "args": {"type": "array"},
        "env": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}
PATIENCE = 20.0


# ── what is hidden in a program ──────────────────────────────────────────────────────────────────────────────────


@dataclasses.dataclass
class Holder:
    value: str


async def test_no_repr_shows_a_secret_whatever_holds_it():
    secret = Secret("canary")

    async def answer() -> str:
        return secret

    task = asyncio.create_task(answer())
    await task

    holders = [secret, [secret], {"token": secret}, Holder(secret), ValueError(secret), task]
    assert not any("canary" in repr(each) for each in holders)
    assert all(HIDDEN in repr(each) for each in holders)


def test_a_secret_is_itself_where_it_is_used():
    secret = Secret("canary")

    assert ("Bearer canary", '["canary"]', b"canary") == (f"Bearer {secret}", json.dumps([secret]), secret.encode())
    assert {"canary": 1}[secret] == 1


def test_an_exception_that_quotes_what_it_was_given_does_not_show_a_secret():
    with pytest.raises(UnicodeEncodeError) as refused:
        Secret("canaryü").encode("ascii")

    assert "canary" not in repr(refused.value)


def remote(folder: Path, url: str) -> AppConfig:
    for program in ("npx", "node"):
        (folder / program).touch(0o700)
    return AppConfig(name="app", options={"url": url}, directory=None, path=str(folder))


@pytest.mark.parametrize(
    "url", [Secret("https://example.com/sse?key=canary"), "https://user:canary@example.com/sse", "https://canary@a/"]
)
def test_a_secret_in_a_url_is_not_put_on_mcp_remote_s_command_line(tmp_path, url):
    app = remote(tmp_path, url)

    with pytest.raises(BadConfig, match="where everyone on this machine can read it") as refused:
        mcp_remote.command(app, {"PATH": app.path})

    assert "canary" not in f"{refused.value} {refused.value.fix}"


@pytest.mark.parametrize(
    "url", ["https://example.com/sse", "https://example.com/sse?team=core", Secret("https://example.com/sse")]
)
def test_a_url_without_one_is(tmp_path, url):
    app = remote(tmp_path, url)

    assert url in mcp_remote.command(app, {"PATH": app.path})


def test_what_is_kept_of_a_call_that_was_not_made_does_not_quote_its_arguments():
    ending = Ending.of(BadArguments('prog sleep: --seconds: expected number, got "canary"', fix="canary"))

    assert "canary" not in repr(ending)
    assert "bad_arguments" == (ending.error or {})["code"]


# ── values from files ────────────────────────────────────────────────────────────────────────────────────────────


class Project:
    """A folder with a config of one app, `app`, whose environment has the value of the test."""

    def __init__(self, root: Path) -> None:
        self.home = root / "home"
        self.folder = root / "project"
        self.secret = self.folder / "secret"
        self.env = {"PATH": os.defpath, "TOKEN": "canary-variable"}
        self.folder.mkdir()
        self.home.mkdir()
        self.loader = Loader(
            state_config=self.home / ".tasak" / "tasak.yaml",
            home=self.home,
            schema_of=lambda transport: SCHEMA,
            builtins={},
            daemon_env={},
        )
        self.keep("canary-file")

    def keep(self, text: str | bytes, mode: int = 0o600) -> None:
        """Have this in the file `secret`."""
        self.secret.write_bytes(text if isinstance(text, bytes) else text.encode())
        self.secret.chmod(mode)

    def write(self, value: str, folder: Path | None = None) -> None:
        config = (folder or self.folder) / "tasak.yaml"
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text(yaml.safe_dump({"apps": {"app": {"command": "/bin/sh", "env": {"VALUE": value}}}}))
        config.chmod(0o644)

    def resolve(self, value: str | None = None) -> App:
        if value is not None:
            self.write(value)
        return self.loader.resolve("app", cwd=self.folder, env=dict(self.env))

    def value(self, value: str | None = None) -> str:
        return str(self.resolve(value).config.options["env"]["VALUE"])

    def refusal(self, value: str | None = None) -> tuple[str, str]:
        with pytest.raises(BadConfig) as refused:
            self.resolve(value)
        return refused.value.message, refused.value.fix or ""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.mark.parametrize("value", ["${TOKEN}", "Bearer ${TOKEN}", "${file:secret}", "${MISSING:-canary}"])
def test_a_value_that_was_filled_in_is_in_no_repr(project, value):
    app = project.resolve(value)

    assert "canary" in app.config.options["env"]["VALUE"]
    assert "canary" not in f"{app!r}{app.config!r}{app.config.options!r}"


def test_a_value_that_stands_in_the_config_is_not_in_the_repr_of_what_holds_all_of_them(project):
    app = project.resolve("canary")

    assert "canary" not in f"{app!r}{app.config!r}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", "a"),
        ("a\n", "a"),
        ("a\r\n", "a"),
        ("a\n\n", "a\n"),
        (" a b ", " a b "),
        ("zażółć", "zażółć"),
        ("${A}",) * 2,
    ],
)
def test_a_file_is_its_text_without_the_newline_at_its_end(project, text, expected):
    project.keep(text)

    assert f"<{expected}>" == project.value("<${file:secret}>")


def test_a_relative_path_begins_at_the_config_s_folder(project):
    project.write("${file:token}", project.home / ".tasak")
    own = project.home / ".tasak" / "token"
    own.write_text("own")
    own.chmod(0o600)

    assert "own" == project.value()
    (project.home / ".tasak" / "tasak.yaml").unlink()
    assert "canary-file" == project.value("${file:./secret}")
    assert "canary-file" == project.value(f"${{file:{project.secret}}}")
    assert "own" == project.value("${file:~/.tasak/token}")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o644, 0o666])
def test_a_file_that_others_can_use_is_refused_with_the_command_that_mends_it(project, mode):
    project.keep("canary", mode)

    message, fix = project.refusal("${file:secret}")

    assert f"can be used by others (mode {mode:o}): {project.secret}" in message
    assert f"chmod 600 {project.secret}" == fix
    assert "canary" not in message + fix


@as_root
def test_a_file_or_a_link_of_another_user_is_refused(project):
    os.chown(project.secret, 54321, 54321)

    assert "belongs to another user" in project.refusal("${file:secret}")[0]
    project.keep("canary")
    os.chown(project.secret, 0, 0)
    link = project.folder / "link"
    link.symlink_to(project.secret)
    assert "canary" == project.value("${file:link}")
    os.lchown(link, 54321, 54321)
    assert "belongs to another user" in project.refusal("${file:link}")[0]


READING = """
import sys
from pathlib import Path
from tasak.auth.secret_file import read_secret
from tasak.errors import BadConfig
try:
    print(read_secret(Path(sys.argv[1]), "it"))
except BadConfig as problem:
    print(problem.message, "|", problem.fix)
"""


@pytest.fixture
def home() -> Iterator[Home]:
    with Home() as made:
        yield made


def kept_by(user: int, path: Path, mode: int, group: int = 0) -> str:
    """Have a file of this user's there, with a secret in it."""
    path.write_text("canary")
    os.chown(path, user, group)
    path.chmod(mode)
    return str(path)


@as_root
@pytest.mark.parametrize(("mode", "group"), [(0o444, 0), (0o644, 0), (0o440, OWNER), (0o640, OWNER)])
def test_what_root_keeps_for_a_user_is_read_whoever_else_may_read_it(home, mode, group):
    """As containers and service managers hand secrets over; nobody but root can write another one there."""
    path = kept_by(0, home.home / "secret", mode, group)

    assert "canary\n" == home.run([sys.executable, "-c", READING, path]).stdout


@as_root
@pytest.mark.parametrize(("mode", "group"), [(0o666, 0), (0o606, 0), (0o660, OWNER), (0o464, OWNER)])
def test_what_root_keeps_is_refused_where_others_can_write_to_it(home, mode, group):
    path = kept_by(0, home.home / "secret", mode, group)

    said = home.run([sys.executable, "-c", READING, path]).stdout

    assert f"it can be used by others (mode {mode:o}): {path} | have root run: chmod go-w {path}\n" == said


@as_root
@pytest.mark.parametrize(("user", "said"), [(OWNER, "can be used by others (mode 444)"), (54321, "belongs to another")])
def test_only_root_may_keep_it_so(home, user, said):
    path = kept_by(user, home.home / "secret", 0o444)
    link = home.home / "link"
    link.symlink_to(path)
    home.give(link)

    for each in (path, link):
        assert f"it {said}" in home.run([sys.executable, "-c", READING, each]).stdout


@pytest.mark.slow
@as_root
def test_a_call_gets_a_secret_of_a_container(home):
    """Kubernetes has a link to a folder of links, all of them root's."""
    version = home.home / "secrets" / "..2026"
    version.mkdir(parents=True)
    kept_by(0, version / "token", 0o444)
    (home.home / "secrets" / "..data").symlink_to("..2026")
    (home.home / "secrets" / "token").symlink_to("..data/token")
    command = ["/usr/bin/env", *FAST_APP["command"]]
    home.configure({"app": {"command": command, "env": {"VALUE": "Bearer ${file:~/secrets/token}"}}})

    done = home("--no-daemon", "app", "environment")

    assert (0, "") == (done.returncode, done.stderr)
    assert "Bearer canary" == json.loads(done.stdout)["VALUE"]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("missing", "cannot be read"),
        ("empty", "is empty"),
        ("a newline", "is empty"),
        ("not utf-8", "is no text"),
        ("nul", "has a NUL in it"),
        ("huge", "no plain file"),
        ("folder", "no plain file"),
        ("pipe", "no plain file"),
    ],
)
def test_a_file_that_holds_no_secret_is_said_and_not_shown(project, kind, said):
    match kind:
        case "missing" | "folder" | "pipe":
            project.secret.unlink()
            with suppress(KeyError):
                {"folder": Path.mkdir, "pipe": os.mkfifo}[kind](project.secret)
        case "empty" | "a newline":
            project.keep("" if kind == "empty" else "\n")
        case "not utf-8":
            project.keep(b"canary\xff")
        case "nul":
            project.keep("canary\0")
        case "huge":
            project.keep("canary" * 20_000)

    message, _ = project.refusal("${file:secret}")

    assert said in message
    assert "app 'app'" in message
    assert "canary" not in message


@pytest.mark.parametrize("value", ["${file:}", "${file}", "${keyring:}", "${vault:x}", "${file:a${B}}"])
def test_what_names_no_place_is_refused(project, value):
    assert project.refusal(value)[0]


def test_a_file_that_was_written_anew_counts_at_once_and_gives_another_session(project):
    first = project.resolve("${file:secret}")
    assert first is project.resolve()

    project.keep("another")
    second = project.resolve()

    assert "another" == second.config.options["env"]["VALUE"]
    assert (first.definition, True) == (second.definition, first.fingerprint != second.fingerprint)
    assert second is project.resolve()


def test_a_file_that_goes_or_is_opened_to_others_is_noticed_at_once(project):
    project.resolve("${file:secret}")

    project.secret.chmod(0o644)
    assert "can be used by others" in project.refusal()[0]
    project.secret.chmod(0o600)
    assert "canary-file" == project.value()
    project.secret.unlink()
    assert "cannot be read" in project.refusal()[0]


def test_a_project_is_read_without_its_secrets_being_read(project):
    project.keep("canary", 0o644)
    project.write("${file:secret}")

    (only,) = project.loader.load(project.folder, project.env).apps()

    assert ("app", None) == (only.name, only.error)


# ── values from the keyring ──────────────────────────────────────────────────────────────────────────────────────


class Vault(KeyringBackend):
    """A keyring in memory. While `is_open` is not set, it waits, as one does that asks for a password."""

    priority = 1

    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[tuple[str, str], str] = {}
        self.is_open = threading.Event()
        self.is_open.set()
        self.reads = 0

    def set_password(self, service: str, username: str, password: str) -> None:
        self.entries[service, username] = password

    def get_password(self, service: str, username: str) -> str | None:
        self.reads += 1
        assert self.is_open.wait(PATIENCE)
        return self.entries.get((service, username))


@pytest.fixture
def vault() -> Iterator[Vault]:
    before = keyring.get_keyring()
    made = Vault()
    made.entries["example.com", "me"] = "canary-keyring"
    keyring.set_keyring(made)
    yield made
    made.is_open.set()
    keyring.set_keyring(before)


class Core:
    """The core, with an app that tells its environment, and another one."""

    def __init__(self, home: Path) -> None:
        self.state = StateDir(home / ".tasak")
        self.state.create()
        self.home = home
        self.gateway = Gateway(self.state, environment={}, home=home)

    def configure(self, **env: str) -> None:
        self.state.config.write_text(yaml.safe_dump({"apps": {"app": {**FAST_APP, "env": env}, "other": FAST_APP}}))
        self.state.config.chmod(0o600)

    async def environment(self, app: str = "app") -> Mapping[str, str]:
        """That of the app's program."""
        request = Request(app=app, tool="environment", argv=(), cwd=self.home, env={"PATH": os.defpath})
        async with asyncio.timeout(PATIENCE):
            reply = await self.gateway.call(request)
        found: Mapping[str, str] = json.loads(reply.body)
        return found


@pytest.fixture
async def core(tmp_path: Path, vault: Vault) -> AsyncIterator[Core]:
    made = Core(tmp_path)
    yield made
    await made.gateway.shut_down()


async def test_a_value_may_come_from_the_keyring(core):
    core.configure(TOKEN="Bearer ${keyring:example.com/me}")

    assert "Bearer canary-keyring" == (await core.environment())["TOKEN"]


async def test_an_entry_is_read_once_a_minute_and_not_once_a_call(core, vault):
    core.configure(A="${keyring:example.com/me}", B="${keyring:example.com/me}")

    for _ in range(3):
        await core.environment()

    assert 1 == vault.reads


async def test_an_entry_that_has_changed_counts_after_a_minute(vault):
    now = 0.0
    ring = Keyring(clock=lambda: now)
    await ring.read(Unread("example.com/me", "app 'app'"))
    vault.entries["example.com", "me"] = "another"

    assert "canary-keyring" == ring.entry("example.com/me", "app 'app'")
    now += BELIEVED + 1
    with pytest.raises(Unread):
        ring.entry("example.com/me", "app 'app'")
    await ring.read(Unread("example.com/me", "app 'app'"))
    assert "another" == ring.entry("example.com/me", "app 'app'")


async def test_a_keyring_that_waits_for_its_user_holds_up_no_other_app(core, vault):
    core.configure(TOKEN="${keyring:example.com/me}")
    vault.is_open.clear()

    waiting = asyncio.create_task(core.environment())

    assert "PATH" in await core.environment("other")
    assert not waiting.done()
    vault.is_open.set()
    assert "canary-keyring" == (await waiting)["TOKEN"]


@pytest.mark.parametrize(
    ("value", "said", "fix"),
    [
        ("${keyring:example.com/you}", "there is no such entry", "keyring set example.com you"),
        ("${keyring:https://a/b/you}", "there is no such entry", "keyring set https://a/b you"),
        ("${keyring:me}", "names no entry", "write ${keyring:service/name}"),
    ],
)
async def test_an_entry_that_is_not_there_is_said(core, value, said, fix):
    core.configure(TOKEN=value)

    with pytest.raises(BadConfig) as refused:
        await core.environment()

    assert said in refused.value.message
    assert fix == refused.value.fix


async def test_without_the_library_the_error_says_what_to_install(core, monkeypatch):
    monkeypatch.setitem(sys.modules, "keyring", None)  # so that an import fails
    core.configure(TOKEN="${keyring:example.com/me}")

    with pytest.raises(BadConfig, match="needs the library `keyring`") as refused:
        await core.environment()

    assert "pip install 'tasak[keyring]'" == refused.value.fix


async def test_what_a_broken_keyring_says_is_not_shown(core, vault, monkeypatch):
    def broken(service: str, username: str) -> str:
        raise RuntimeError("canary")

    monkeypatch.setattr(vault, "get_password", broken)
    core.configure(TOKEN="${keyring:example.com/me}")

    with pytest.raises(BadConfig, match=r"cannot be read \(RuntimeError\)") as refused:
        await core.environment()

    assert "canary" not in f"{refused.value} {refused.value.fix}"
