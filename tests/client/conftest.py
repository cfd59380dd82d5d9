import os

import pytest

from tasak.paths import StateDir
from tests.shell import Shell


@pytest.fixture
def state(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> StateDir:
    """Of a user who is at home in this process, too."""
    for name in [name for name in os.environ if name.startswith("TASAK_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(shell.home))
    return StateDir(shell.home / ".tasak")
