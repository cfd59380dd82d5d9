"""What the build puts into the wheel, with a compiler and without one. `.ci/run` installs both."""

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


def build(folder: Path, **environment: str) -> zipfile.ZipFile:
    """The wheel that comes out; nothing is said of how."""
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=True)
    assert "tasak.c" not in done.stdout + done.stderr
    [wheel] = folder.iterdir()
    return zipfile.ZipFile(wheel)


def command_of(wheel: zipfile.ZipFile) -> bytes:
    """The file that becomes the command `tasak`, which may be run."""
    [info] = [each for each in wheel.infolist() if each.filename.endswith(".data/scripts/tasak")]
    assert 0o755 == info.external_attr >> 16 & 0o777
    return wheel.read(info)


def tag_of(wheel: zipfile.ZipFile) -> str:
    return Path(str(wheel.filename)).stem.split("-", 2)[2]


@pytest.mark.compiler
def test_with_a_compiler_the_command_is_a_program_of_this_platform(tmp_path):
    with build(tmp_path) as wheel:
        command, tag = command_of(wheel), tag_of(wheel)

    assert tag.startswith("py3-none-")
    assert not tag.endswith("-any")
    assert not command.startswith(b"#!")


@pytest.mark.parametrize(
    "environment",
    [{"TASAK_NATIVE": "0"}, {"CC": "/nowhere/cc"}, {"CC": "false"}, {"CC": "true"}, {"CC": "cc -nosuchflag"}],
    ids=lambda given: " ".join(f"{name}={value}" for name, value in given.items()),
)
def test_without_one_it_is_the_script_and_nobody_hears_of_it(tmp_path, environment):
    with build(tmp_path, **environment) as wheel:
        command, tag = command_of(wheel), tag_of(wheel)

    assert "py3-none-any" == tag
    assert (ROOT / "scripts" / "tasak").read_bytes() == command


@pytest.mark.parametrize("native", ["0", pytest.param("1", marks=pytest.mark.compiler)])
def test_beside_it_is_the_full_cli_in_either_case(tmp_path, native):
    with build(tmp_path, TASAK_NATIVE=native) as wheel:
        [entry_points] = [name for name in wheel.namelist() if name.endswith("/entry_points.txt")]

        assert "tasak-py = tasak.__main__:take_over" in wheel.read(entry_points).decode()


def test_the_source_distribution_has_what_the_build_needs():
    [included] = [
        tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    ]

    assert {"native", "scripts", "hatch_build.py"} <= set(included)
