"""A project's file that redefines an app has no say before its user trusts it, as it is, where it is."""

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasak.core.trust import TrustBook, read_digests
from tasak.errors import BadArguments, BadConfig, TasakError, Untrusted
from tasak.paths import StateDir
from tests.core.test_config import SERVER, STRANGER, World, as_root


class Clone(World):
    """A home with an app `linear`, and a project in it that has one of that name, too."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.state = StateDir(self.own.parent)
        self.state.create()
        self.book = TrustBook(self.state)
        self.mine = self.define(self.own, "linear", "mine")
        self.theirs = self.define(self.project / "tasak.yaml", "linear", "db")

    def file_of(self, app: str, cwd: Path | None = None) -> Path | None:
        return self.load(cwd or self.project).resolve(app).file

    def refusal(self, app: str = "linear", cwd: Path | None = None) -> Untrusted:
        with pytest.raises(Untrusted) as raised:
            self.file_of(app, cwd)
        return raised.value


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


def test_a_redefined_app_is_refused_by_the_name_of_both_files_with_the_command_that_allows_it(clone):
    problem = clone.refusal()

    assert f"{clone.theirs} redefines the app 'linear' of {clone.mine}, and is not trusted" == problem.message
    assert f"read it, and if all that it says shall hold: tasak trust {clone.project}" == problem.fix
    assert (8, "not_executed") == (problem.exit_status, problem.outcome)


def test_whoever_stands_elsewhere_has_their_own_app(clone):
    assert clone.mine == clone.file_of("linear", clone.home)


def test_an_app_that_no_farther_file_has_needs_no_trust(clone):
    assert clone.theirs == clone.file_of("db")
    assert clone.mine == clone.file_of("mine")


def test_a_built_in_app_may_be_redefined_without_it(clone):
    clone.define(clone.theirs, "demo")

    assert clone.theirs == clone.file_of("demo")


def test_a_trusted_file_may_redefine(clone):
    clone.book.trust(clone.project)

    assert clone.theirs == clone.file_of("linear")
    assert clone.theirs == clone.file_of("linear", clone.inner)


def test_a_changed_file_has_to_be_trusted_anew(clone):
    clone.book.trust(clone.project)

    clone.define(clone.theirs, "linear")

    assert clone.refusal().message.endswith(", and has changed since you trusted it")
    clone.book.trust(clone.project)
    assert clone.theirs == clone.file_of("linear")


def test_a_file_that_is_what_it_was_again_is_trusted_again(clone):
    text = clone.theirs.read_text()
    clone.book.trust(clone.project)
    clone.define(clone.theirs, "linear")
    clone.refusal()

    clone.write(clone.theirs, text)

    assert clone.theirs == clone.file_of("linear")


def test_trust_that_is_revoked_is_gone(clone):
    clone.book.trust(clone.project)

    assert [str(clone.theirs)] == clone.book.revoke(clone.project)

    assert clone.refusal().message.endswith(", and is not trusted")


def test_trust_is_revoked_of_a_file_that_is_not_there_any_more(clone):
    clone.book.trust(clone.project)
    clone.theirs.unlink()

    clone.book.revoke(clone.project)

    assert {} == clone.book.found()


def test_a_file_that_isolates_itself_redefines_what_it_hides(clone):
    clone.define(clone.theirs, "linear", "db", more="isolate: true\n")

    assert f"redefines the app 'linear' of {clone.mine}" in clone.refusal().message
    assert clone.theirs == clone.file_of("db")
    assert "mine" not in [app.name for app in clone.load(clone.project).apps()]


def test_an_app_of_another_project_is_redefined_too(clone):
    inner = clone.define(clone.inner / ".tasak" / "tasak.yaml", "db")

    problem = clone.refusal("db", clone.inner)

    assert f"{inner} redefines the app 'db' of {clone.theirs}, and is not trusted" == problem.message
    assert problem.fix is not None
    assert problem.fix.endswith(f"tasak trust {clone.inner}")


def test_a_file_of_the_home_folder_is_not_the_users_own(clone):
    near = clone.define(clone.home / "tasak.yaml", "linear")

    assert clone.refusal("linear", clone.home).message.startswith(f"{near} redefines")


def test_what_a_broken_file_may_define_may_be_redefined(clone):
    """Or a slip in the user's own file would make the project's `linear` theirs."""
    clone.write(clone.own, f"apps:\n  linear: {{{SERVER}}}\n  mine: [")

    problem = clone.refusal()

    assert f"{clone.theirs} may redefine the app 'linear' of {clone.mine}, which is broken (" in problem.message
    assert clone.theirs == clone.file_of("db")


def test_a_file_that_cannot_be_read_may_define_anything(clone):
    clone.own.unlink()
    clone.own.mkdir()

    assert "may redefine the app 'db'" in clone.refusal("db").message


def test_a_file_that_the_caller_names_is_their_own_word(clone):
    clone.env["TASAK_CONFIG"] = str(clone.theirs)

    app = clone.load(clone.home).resolve("linear")

    assert (clone.theirs, "unknown") == (app.file, app.standing)


def test_the_list_of_apps_says_which_is_refused(clone):
    errors = {app.name: app.error for app in clone.load(clone.project).apps()}

    assert clone.refusal().message == errors.pop("linear")
    assert {None} == set(errors.values())


def test_an_app_knows_how_its_file_stands(clone):
    clone.define(clone.project / "tasak.yaml", "db")

    found = [clone.load(clone.project).resolve(app).standing for app in ("mine", "demo", "db")]
    clone.book.trust(clone.project)
    found.append(clone.load(clone.project).resolve("db").standing)
    clone.define(clone.project / "tasak.yaml", "db", "more")
    found.append(clone.load(clone.project).resolve("db").standing)

    assert ["own", "own", "unknown", "trusted", "changed"] == found


# ── what is trusted ──────────────────────────────────────────────────────────────────────────────────────────────


def test_the_same_text_in_another_folder_is_another_file(clone):
    """There, its relative commands are other programs."""
    clone.book.trust(clone.project)
    other = clone.write(clone.home / "other" / "tasak.yaml", clone.theirs.read_text())

    assert clone.refusal(cwd=other.parent).message.startswith(f"{other} redefines")


def test_a_link_to_a_trusted_projects_folder_gives_no_trust(clone):
    hidden = clone.write(clone.project / ".tasak" / "tasak.yaml", clone.theirs.read_text())
    clone.theirs.unlink()
    clone.book.trust(clone.project)
    evil = clone.home / "evil"
    evil.mkdir()

    (evil / ".tasak").symlink_to(hidden.parent)
    clone.refusal(cwd=evil)
    (evil / ".tasak").unlink()
    (evil / "tasak.yaml").symlink_to(hidden)
    clone.refusal(cwd=evil)


def test_a_project_is_the_same_by_whatever_link_one_comes(clone):
    link = clone.home / "link"
    link.symlink_to(clone.project)

    clone.book.trust(link)

    assert clone.theirs == clone.file_of("linear")
    assert link / "tasak.yaml" == clone.file_of("linear", link)


def test_a_file_is_trusted_by_its_own_name_too(clone):
    other = clone.define(clone.project / "other.yaml", "db")
    clone.env["TASAK_CONFIG"] = str(other)

    clone.book.trust(other)

    assert "trusted" == clone.load(clone.home).resolve("db").standing
    assert [str(other)] == clone.book.revoke(other)


def test_the_list_says_what_has_become_of_each_file(clone):
    folders = [clone.home / name for name in ("changed", "fine", "gone")]
    for folder in folders:
        clone.define(folder / "tasak.yaml", "db")
        clone.book.trust(folder)
    clone.define(folders[0] / "tasak.yaml", "other")
    (folders[2] / "tasak.yaml").unlink()

    found = clone.book.found()

    assert {f"{folder}/tasak.yaml" for folder in folders} == set(found)
    assert ["changed", "trusted", "gone"] == [found[f"{folder}/tasak.yaml"] for folder in folders]


@pytest.mark.parametrize("name", ["home", "home/.tasak", "home/.tasak/tasak.yaml", "home/nowhere", "home/project/x"])
def test_where_there_is_no_projects_file_nothing_is_trusted(clone, tmp_path, name):
    with pytest.raises(BadArguments, match=r"there is no tasak\.yaml to trust at"):
        clone.book.trust(tmp_path / name)

    assert {} == clone.book.found()


def test_a_broken_file_is_not_trusted(clone):
    clone.write(clone.theirs, "apps: [")

    with pytest.raises(BadConfig, match=r"tasak\.yaml: line 2"):
        clone.book.trust(clone.project)


def test_a_name_that_is_too_long_for_a_file_is_not_trusted(clone):
    with pytest.raises(BadConfig, match="cannot be read: File name too long"):
        clone.book.trust(clone.project / ("x" * 5000))


def test_a_file_that_others_can_write_is_not_trusted(clone):
    clone.theirs.chmod(0o666)

    with pytest.raises(BadConfig, match="other users can write to it"):
        clone.book.trust(clone.project)


@as_root
def test_a_strangers_file_is_not_trusted(clone):
    os.chown(clone.theirs, STRANGER, STRANGER)

    with pytest.raises(BadConfig, match="belongs to another user"):
        clone.book.trust(clone.project)


def test_what_was_not_trusted_cannot_be_revoked(clone):
    with pytest.raises(BadArguments, match="was not trusted"):
        clone.book.revoke(clone.project)


# ── where that is written down ───────────────────────────────────────────────────────────────────────────────────


def test_the_list_is_private_whatever_the_umask_is(clone):
    before = os.umask(0)
    try:
        clone.book.trust(clone.project)
    finally:
        os.umask(before)

    assert 0o600 == stat.S_IMODE(clone.state.trusted.stat().st_mode)
    assert ["tasak.yaml", "trusted.json"] == sorted(os.listdir(clone.state.root))


def test_many_at_once_lose_nothing(clone):
    folders = [clone.home / f"p{number}" for number in range(12)]
    for folder in folders:
        clone.define(folder / "tasak.yaml", "db")

    with ThreadPoolExecutor(12) as threads:
        list(threads.map(lambda folder: TrustBook(clone.state).trust(folder), folders))

    assert {f"{folder}/tasak.yaml" for folder in folders} == set(clone.book.found())


def test_a_list_that_cannot_be_written_says_so_and_stays_as_it_is(clone):
    clone.state.trusted.mkdir()

    with pytest.raises(BadConfig, match=r"trusted\.json"):
        clone.book.trust(clone.project)

    clone.refusal()


def test_a_list_behind_a_link_counts_for_nothing_and_is_not_written_through(clone, tmp_path):
    clone.book.trust(clone.project)
    planted = tmp_path / "planted.json"
    clone.state.trusted.rename(planted)
    clone.state.trusted.symlink_to(planted)
    text = planted.read_text()

    clone.refusal()
    clone.book.trust(clone.project)

    assert text == planted.read_text()
    assert not clone.state.trusted.is_symlink()


def test_a_list_that_others_can_write_counts_for_nothing(clone):
    clone.book.trust(clone.project)

    clone.state.trusted.chmod(0o666)

    clone.refusal()


@as_root
def test_a_strangers_list_counts_for_nothing(clone):
    clone.book.trust(clone.project)

    os.chown(clone.state.trusted, STRANGER, STRANGER)

    clone.refusal()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"files": []}', '{"files": {"/x": 3}}', "[" * 100_000])
def test_a_list_that_is_none_trusts_nothing_and_is_mended_by_the_next_trust(clone, text):
    clone.write(clone.state.trusted, text)

    clone.refusal()
    clone.book.trust(clone.project)

    assert clone.theirs == clone.file_of("linear")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.binary() | st.recursive(st.none() | st.text() | st.floats(), lambda inner: st.dictionaries(
    st.sampled_from(["files", "/a"]) | st.text(), inner)).map(lambda said: json.dumps(said).encode()))  # fmt: skip
def test_whatever_stands_in_the_list_it_is_read(tmp_path, content):
    path = tmp_path / "trusted.json"
    path.write_bytes(content)
    path.chmod(0o600)

    assert all(isinstance(digest, str) for digest in read_digests(path).values())


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_list_that_is_no_file_is_not_waited_for(clone, make):
    make(clone.state.trusted)

    clone.refusal()


def test_a_name_that_is_not_utf8_is_kept(clone):
    folder = clone.home / os.fsdecode(b"caf\xe9")
    clone.define(folder / "tasak.yaml", "linear")
    clone.refusal(cwd=folder)

    clone.book.trust(folder)

    assert folder / "tasak.yaml" == clone.file_of("linear", folder)


def test_the_one_who_cannot_be_trusted_is_told_as_any_error_of_ours(clone):
    assert isinstance(clone.refusal(), TasakError)
    assert "untrusted" == clone.refusal().as_json()["error"]["code"]
