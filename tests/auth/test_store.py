"""The files that sign-ins are kept in: private, whole, one for each authorization server."""

import asyncio
import os
import stat
import subprocess
import sys
import threading

import pytest
from mcp.shared.auth import OAuthToken

from tasak.auth.sign_in import AppSignIn
from tasak.auth.store import AuthorizationServer, Login, TokenStore
from tasak.errors import BadConfig, NotExecuted
from tests.auth.authorization_server import protected_server
from tests.auth.signing_in import kept, signed_in, status_of_call

ISSUER = AuthorizationServer(issuer="https://login.example")
URL = "https://mcp.example/mcp"


def login(url: str = URL, key: str | None = None, token: str = "t0ken") -> Login:
    return Login(url=url, key=key, token=OAuthToken(access_token=token, expires_in=60), obtained=1000.0)


@pytest.fixture
def store(tmp_path) -> TokenStore:
    found = TokenStore(tmp_path / "auth")
    found.create()
    return found


def test_what_was_put_is_found(store):
    store.put(ISSUER, login())

    found = store.find(URL, None)
    assert found is not None
    assert (ISSUER.issuer, login()) == (found.server.issuer, found.login)


def test_what_another_process_has_put_is_found(store, tmp_path):
    other = TokenStore(tmp_path / "auth")
    store.put(ISSUER, login(token="first"))
    store.find(URL, None)
    other.put(ISSUER, login(token="other"))

    found = store.find(URL, None)
    assert found is not None
    assert "other" == found.login.token.access_token


def test_a_file_that_another_process_replaces_meanwhile_is_read(store, tmp_path):
    other = TokenStore(tmp_path / "auth")
    store.put(ISSUER, login())
    is_over = threading.Event()

    def renew_again_and_again():
        while not is_over.is_set():
            other.put(ISSUER, login())

    renewing = threading.Thread(target=renew_again_and_again)
    renewing.start()
    try:
        found = [store.find(URL, None) for _ in range(5000)]
    finally:
        is_over.set()
        renewing.join()

    assert None not in found


def test_a_sign_in_is_told_from_others_by_its_url_its_client_and_its_issuer(store):
    store.put(ISSUER, login())

    assert store.find(f"{URL}/more", None) is None
    assert store.find(URL, "client") is None
    assert store.find(URL, None, "https://other.example") is None
    assert store.find(URL, None, "https://login.example/") is not None


def test_putting_one_leaves_the_others_of_that_issuer(store):
    for each in (login(), login(key="client"), login(url=f"{URL}/more"), login(token="newer")):
        store.put(ISSUER, each)

    assert "newer" == store.find(URL, None).login.token.access_token
    assert store.find(URL, "client") is not None
    assert store.find(f"{URL}/more", None) is not None


def test_dropping_the_last_one_leaves_no_token_behind(store, tmp_path):
    store.put(ISSUER, login())
    store.put(ISSUER, login(key="client"))
    for found in (store.find(URL, None), store.find(URL, "client")):
        assert found is not None
        store.drop(found)

    assert "" == kept(tmp_path / "auth")


def test_an_expired_token_is_told_by_the_wall_clock():
    assert (60, 0, -1) == tuple(login().seconds_left(now) for now in (1000.0, 1060.0, 1061.0))
    assert (False, True) == tuple(login().has_expired(now) for now in (1059.0, 1060.0))


def test_no_secret_is_shown(store):
    store.put(ISSUER, login(token="canary"))

    assert "canary" not in repr(store.find(URL, None))


# Files

WRITE = """
import os, sys
from pathlib import Path
from mcp.shared.auth import OAuthToken
from tasak.auth.store import AuthorizationServer, Login, TokenStore
os.umask(int(sys.argv[1], 8))
async def main():
    store = TokenStore(Path(sys.argv[2]))
    server = AuthorizationServer(issuer="https://login.example")
    async with store.locked(server.issuer):
        store.put(server, Login(url="u", token=OAuthToken(access_token="t")))
import asyncio; asyncio.run(main())
"""


@pytest.mark.parametrize("umask", ["000", *(pytest.param(each, marks=pytest.mark.slow) for each in ("077", "777"))])
def test_files_are_private_whatever_the_umask_is(tmp_path, umask):
    folder = tmp_path / "home" / "auth"
    subprocess.run([sys.executable, "-c", WRITE, umask, str(folder)], check=True, timeout=60)

    assert [0o700, 0o700] == [mode(each) for each in (folder.parent, folder)]
    assert [0o600, 0o600] == [mode(file) for file in folder.iterdir()]


def mode(path) -> int:
    return stat.S_IMODE(os.lstat(path).st_mode)


def test_a_file_that_others_could_read_is_closed_to_them(store, tmp_path):
    store.put(ISSUER, login())
    (file,) = (tmp_path / "auth").glob("*.json")
    file.chmod(0o644)
    store.find(URL, None)

    assert 0o600 == mode(file)


@pytest.mark.parametrize("kind", ["link", "second name"])
def test_no_link_is_followed(store, tmp_path, kind):
    store.put(ISSUER, login())
    (file,) = (tmp_path / "auth").glob("*.json")
    elsewhere = tmp_path / "elsewhere"
    file.rename(elsewhere)
    text = elsewhere.read_text()
    if kind == "link":
        file.symlink_to(elsewhere)
    else:
        file.hardlink_to(elsewhere)

    with pytest.raises(BadConfig, match=file.name) as refused:
        store.find(URL, None)
    with pytest.raises(BadConfig):
        store.put(ISSUER, login(token="other"))
    assert f"mv {file}" in (refused.value.fix or "")
    assert text == elsewhere.read_text()


def test_a_folder_that_is_a_link_or_open_to_others_is_not_used(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    for name in ("link", "open"):
        with pytest.raises(BadConfig, match=name):
            TokenStore(tmp_path / name).create()


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadConfig, match="file"):
        TokenStore(tmp_path / "file" / "auth").create()


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"version": 2, "issuer": "x"}', '{"issuer": "canary"', "\x00"])
def test_a_damaged_file_is_named_and_kept_as_it_is(store, tmp_path, damage):
    store.put(ISSUER, login())
    (file,) = (tmp_path / "auth").glob("*.json")
    file.write_text(damage)

    for attempt in (lambda: store.find(URL, None), lambda: store.put(ISSUER, login())):
        with pytest.raises(BadConfig) as refused:
            attempt()
        assert str(file) in refused.value.message
        assert f"mv {file} {file}.old" in (refused.value.fix or "")
        assert "canary" not in refused.value.message
    assert damage == file.read_text()


def test_a_damaged_file_of_one_authorization_server_is_no_matter_to_the_others(store, tmp_path):
    store.put(ISSUER, login())
    (tmp_path / "auth" / "another.json").write_text("{")

    assert store.find(URL, None) is not None


async def test_a_call_and_a_login_say_which_file_is_damaged(tmp_path):
    async with protected_server() as server:
        sign_in = await signed_in(server, tmp_path)
        (file,) = [each for each in os.scandir(tmp_path) if each.name.endswith(".json")]
        os.truncate(file.path, 100)

        with pytest.raises(BadConfig, match=file.name):
            await status_of_call(sign_in, server.url)
        with pytest.raises(BadConfig, match=file.name):
            sign_in.status(server.url, "oauth")
        with pytest.raises(BadConfig, match=file.name):
            await signed_in(server, tmp_path)
    assert 100 == os.stat(file.path).st_size


async def test_nothing_is_made_by_looking(tmp_path):
    sign_in = AppSignIn("app", tmp_path / "auth")

    assert not sign_in.status(URL, "oauth")["signed_in"]
    assert not await sign_in.logout(URL, "oauth")
    assert not (tmp_path / "auth").exists()


# The lock


async def test_a_lock_is_held_by_one_at_a_time(store):
    events: list[str] = []

    async def hold(name: str) -> None:
        async with store.locked(ISSUER.issuer):
            events.extend([name, name])

    async with store.locked(ISSUER.issuer):
        waiting = [asyncio.create_task(hold(name)) for name in "ab"]
        await asyncio.sleep(0)
        assert [] == events
    await asyncio.gather(*waiting)

    assert events in (list("aabb"), list("bbaa"))


async def test_a_lock_that_nobody_lets_go_of_is_not_waited_for_for_ever(tmp_path):
    holder = TokenStore(tmp_path)
    async with holder.locked(ISSUER.issuer):
        with pytest.raises(NotExecuted, match="another process has been signing in"):
            async with TokenStore(tmp_path, lock_timeout=0.1).locked(ISSUER.issuer):
                pass


async def test_the_lock_of_one_issuer_is_no_other_s(store):
    async with store.locked(ISSUER.issuer), store.locked("https://other.example"):
        pass


@pytest.mark.slow
async def test_the_lock_of_a_process_that_has_died_is_free(store, tmp_path):
    code = f"""
import asyncio, os, signal
from pathlib import Path
from tasak.auth.store import TokenStore
async def main():
    async with TokenStore(Path({str(tmp_path / "auth")!r})).locked("https://login.example"):
        os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    assert -9 == await process.wait()

    async with store.locked(ISSUER.issuer):
        pass
