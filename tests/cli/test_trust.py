"""Which folder `tasak trust` is about, where that is not plain."""

import pytest

from tests.shell import Shell

APPS = 'apps: {mine: {command: ["cat"]}}\n'


@pytest.mark.parametrize("options", [(), pytest.param(("--revoke",), marks=pytest.mark.slow)])
def test_no_name_at_all_means_no_folder(shell: Shell, options: tuple[str, ...]) -> None:
    (shell.cwd / "tasak.yaml").write_text(APPS)

    done = shell("trust", *options, "")

    assert (2, "") == (done.returncode, done.stdout)
    assert done.stderr.startswith("tasak: '' names no folder\n")
    assert "" == shell("trust").stdout


@pytest.mark.slow
def test_where_the_working_directory_is_gone_a_name_has_to_be_absolute(shell: Shell) -> None:
    project = shell.home / "project"
    project.mkdir()
    (project / "tasak.yaml").write_text(APPS)
    script = f"mkdir gone && cd gone && rmdir ../gone; tasak trust .; tasak trust {project}"

    done = shell.script(script)

    assert f"trusted as it is now: {project}/tasak.yaml\n" == done.stdout
    assert done.stderr.startswith("tasak: there is no working directory for '.' to begin in\n")
