import os
import stat
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasak import ownership
from tasak.core.bad_text import BadText
from tasak.core.config_file import BrokenFile, ConfigFile, FileReader, SkippedFile
from tasak.core.config_text import parse

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")

# A user id that is neither ours nor root's.
STRANGER = 54321


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tasak.yaml"


def read(path: Path, *, is_users_own: bool = False):
    return FileReader(parse).read(path, path.parent, is_users_own=is_users_own)


def message_for(path: Path, text: str) -> str:
    path.write_text(text)
    found = read(path)
    assert isinstance(found, BrokenFile)
    return found.message.removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("# nothing", None),
        ("a: 1", {"a": 1}),
        ("a: [1.5, yes, ~, x]", {"a": [1.5, True, None, "x"]}),
        ("a: 2025-11-25", {"a": "2025-11-25"}),
        ("a: 22:22", {"a": "22:22"}),
        ("a: !!str 1", {"a": "1"}),
        ("{a: b}", {"a": "b"}),
        ('{"a": "\\ud83d\\ude00"}', {"a": "😀"}),
        ("a: &x {k: 1, l: 2}\nb: {<<: *x, k: 3}", {"a": {"k": 1, "l": 2}, "b": {"k": 3, "l": 2}}),
        ("a: {<<: [{k: 1}, {k: 2, l: 2}]}", {"a": {"k": 1, "l": 2}}),
        ("'<<': 3", {"<<": 3}),
        ("&k a: 1\nb: *k", {"a": 1, "b": "a"}),
    ],
)
def test_a_text_reads_as_plain_values(text, expected):
    assert expected == parse(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [1\n", "line 2, column 1"),
        ("a: 1\n\tb: 2", "line 2, column 1"),
        ("a: 1\na: 2", "line 2, column 1: the key 'a' is given twice"),
        ("a: {b: 1, 'b': 2}", "line 1, column 11: the key 'b' is given twice"),
        ("a: {<<: {}, <<: {}}", "given twice"),
        ('{"a": 1, "a": 2}', "the key 'a' is given twice"),
        ('{"a": 1,\n "b" 2}', "line 2, column 6"),
        ('{"a": NaN}', "no number"),
        ('{"a": "\\ud83d"}', "surrogate"),
        ('{"a": "\\u0000"}', "NUL"),
        ("no: 1", "the key 'no' reads as false: quote it"),
        ("? [a]\n: 1", "a key has to be a string"),
        ("a: !!python/object:os.x 1", "tag"),
        ("a: !x {}", "tag"),
        ("a: 1\n---\nb: 2", "line 2, column 1: there is a second document"),
        ("a: *b", "*b refers to nothing before it"),
        ("a: &x [*x]", "refers to nothing before it"),
        ("a: {<<: 3}", "<< takes a mapping"),
        ("a: 0x_", "no number"),
        ("a: " + "9" * 5000, "no number"),
        ('{"a": ' + "9" * 5000 + "}", "too many digits"),
        ("a: \x07", "line 1"),
        ("[" * 100_000, "nest"),
        ('{"a":' * 100_000, "nested too deeply"),
        ('{"a": ' + "[" * 70 + "]" * 70 + "}", "nested too deeply"),
    ],
)
def test_what_is_wrong_with_a_text_is_said_with_its_place(text, expected):
    with pytest.raises(BadText) as raised:
        parse(text)

    assert expected in str(raised.value)


@pytest.mark.parametrize(
    "text",
    [
        "a0: &a0 [x]\n" + "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)),
        "a: &a {" + ", ".join(f"k{n}: 1" for n in range(999)) + "}\nb: {<<: [" + ", ".join(["*a"] * 999) + "]}",
        'a: &a "' + "x" * 1_000_000 + '"\nb: [' + ", ".join(["*a"] * 999) + "]",
        '{"a": [' + "1, " * 100_001 + "1]}",
    ],
    ids=["aliases", "merges", "long texts", "one long list"],
)
def test_a_bomb_is_an_error_and_not_a_hang(text):
    with pytest.raises(BadText, match="too large"):
        parse(text)


@given(st.text() | st.text(alphabet="ab{}[]:,&*<-?!'\"#|> \n\t1.~\\"))
def test_whatever_the_text_it_is_read_or_refused(text):
    with suppress(BadText):
        parse(text)


def test_a_file_says_its_apps_its_settings_and_whether_it_isolates(path):
    path.write_text("apps: {a: {}}\nmcpServers: {b: {}}\nsettings: {retries: 0}\nisolate: true\nx-shared: {}\n")

    found = read(path)

    expected = ConfigFile(
        path=path, folder=path.parent, apps={"a": {}, "b": {}}, settings={"retries": 0}, is_isolating=True
    )
    assert expected == found


def test_an_empty_file_says_nothing(path):
    path.write_text("")

    assert ConfigFile(path=path, folder=path.parent, apps={}, settings={}) == read(path)


def test_a_byte_order_mark_is_no_content(path):
    path.write_bytes(b"\xef\xbb\xbfapps: {}\n")

    assert isinstance(read(path), ConfigFile)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- a", "the file has to be a mapping"),
        ("apps: [a]", "'apps' has to be a mapping"),
        ("mcpServers: 3", "'mcpServers' has to be a mapping"),
        ("isolate: 1", "'isolate' has to be true or false"),
        ("app: {}", "unknown key 'app'"),
        ("settings: {retries: -1}", "settings: 'retries' is not what it should be: a whole number, 0 or more"),
        ("apps: {a: {}}\nmcpServers: {a: {}}", "app 'a' is defined twice, under 'apps' and under 'mcpServers'"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(path, text, expected):
    assert expected == message_for(path, text)


def test_an_unknown_key_comes_with_the_nearest_one(path):
    path.write_text("setings: {}")

    found = read(path)

    assert isinstance(found, BrokenFile)
    assert "did you mean 'settings'?" == found.fix


def test_a_file_that_is_not_utf8_says_where(path):
    path.write_bytes(b"apps: {}\n# caf\xe9\n")

    found = read(path)

    assert isinstance(found, BrokenFile)
    assert f"{path}: it is not UTF-8 at byte 14" == found.message


def test_a_file_above_ten_megabytes_is_not_read_to_its_end(path):
    with path.open("wb") as file:
        file.truncate(1 << 33)

    found = read(path)

    assert isinstance(found, BrokenFile)
    assert "larger than 10000000 bytes" in found.message


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_regular_file_is_refused_and_not_waited_for(path, make):
    make(path)

    found = read(path)

    assert isinstance(found, BrokenFile)
    assert f"{path} is no regular file" == found.message


def test_a_link_to_nothing_is_said(path):
    path.symlink_to("nowhere")

    found = read(path)

    assert isinstance(found, BrokenFile)
    assert f"{path} cannot be read: No such file or directory" == found.message


def test_no_file_is_nothing(path):
    assert read(path) is None


def test_your_own_file_that_others_can_write_is_refused_with_the_command_that_mends_it(path):
    path.write_text("apps: {}")
    path.chmod(0o666)

    found = read(path)

    assert isinstance(found, BrokenFile)
    assert f"{path} is not read: other users can write to it (mode 666)" == found.message
    assert f"chmod go-w {path}" == found.fix


@pytest.mark.parametrize("place", ["project", "project/.tasak"])
def test_a_file_in_a_folder_that_is_everybodys_is_refused_with_the_command_that_mends_it(tmp_path, place):
    path = tmp_path / "project" / ".tasak" / "tasak.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("apps: {}")
    (tmp_path / place).chmod(0o777)

    found = FileReader(parse).read(path, tmp_path / "project", is_users_own=False)

    assert isinstance(found, BrokenFile)
    assert f"{path} is not read: other users can write to {tmp_path / place} (mode 777)" == found.message
    assert f"chmod go-w {tmp_path / place}" == found.fix


@pytest.mark.parametrize("mode", [0o1777, 0o775])
def test_a_file_of_ones_own_where_others_can_put_only_theirs_is_read(path, mode):
    path.write_text("apps: {}")
    path.parent.chmod(mode)

    assert isinstance(read(path), ConfigFile)


def test_group_write_is_fine_where_the_group_is_private(path):
    path.write_text("apps: {}")
    path.chmod(0o664)
    is_private = ownership.is_private_group(path.stat().st_gid, os.geteuid())

    assert is_private == isinstance(read(path), ConfigFile)


def test_a_group_that_is_not_the_owners_primary_one_is_not_private():
    assert not ownership.is_private_group(STRANGER, os.geteuid())


def test_a_user_without_an_entry_has_no_private_group():
    assert not ownership.is_private_group(STRANGER, STRANGER)


@as_root
def test_a_file_of_another_user_is_skipped_with_a_notice(path):
    path.write_text("apps: {}")
    os.chown(path, STRANGER, STRANGER)

    assert SkippedFile(path=path, notice=f"{path} is not read: it belongs to another user") == read(path)


@as_root
def test_a_file_of_another_user_in_the_place_of_your_own_is_an_error(path):
    path.write_text("apps: {}")
    os.chown(path, STRANGER, STRANGER)

    assert isinstance(read(path, is_users_own=True), BrokenFile)


@as_root
def test_a_link_that_another_user_made_is_not_followed(path, tmp_path):
    (tmp_path / "mine.yaml").write_text("apps: {}")
    path.symlink_to("mine.yaml")
    os.chown(path, STRANGER, STRANGER, follow_symlinks=False)

    assert isinstance(read(path), SkippedFile)


def test_a_file_is_parsed_once_until_it_changes(path):
    parsed: list[str] = []
    reader = FileReader(lambda text: parsed.append(text) or parse(text))

    path.write_text("apps: {a: {}}")
    first = [reader.read(path, path.parent, is_users_own=False) for _ in range(3)]
    path.write_text("apps: {bb: {}}")
    second = reader.read(path, path.parent, is_users_own=False)

    assert ["apps: {a: {}}", "apps: {bb: {}}"] == parsed
    assert first[0] is first[2]
    assert isinstance(second, ConfigFile)
    assert ["bb"] == list(second.apps)


def test_a_kept_file_is_still_looked_at_for_who_can_write_to_it(path):
    reader = FileReader(parse)
    path.write_text("apps: {}")
    reader.read(path, path.parent, is_users_own=False)

    path.chmod(stat.S_IMODE(path.stat().st_mode) | stat.S_IWOTH)

    assert isinstance(reader.read(path, path.parent, is_users_own=False), BrokenFile)
