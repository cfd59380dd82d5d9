"""Puts the command `tasak` into the wheel: native/tasak.c where it compiles and runs, else scripts/tasak.

Nobody who installs needs a compiler, and nobody is told that there is none. `TASAK_NATIVE=0` asks for the script.
"""

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import platform_tags

# Without libraries to load it starts in 0.15 ms less, of some 0.8; not every system can do without them.
LINKS = (["-static"], [])

# What the program says when it finds no tasak-py beside itself: it runs on this machine.
RUNS = 1


class CustomBuildHook(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        self.scratch = Path(tempfile.mkdtemp())
        command = self.scratch / "tasak"
        if os.environ.get("TASAK_NATIVE") != "0" and self.is_compiled(command):
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{platform()}"
        else:
            # An installer sets no x bit that is not there, and puts the interpreter's path into the first line.
            shutil.copy(Path(self.root, "scripts", "tasak"), command)
            command.chmod(0o755)
        build_data["shared_scripts"][str(command)] = "tasak"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        shutil.rmtree(self.scratch)

    def is_compiled(self, command: Path) -> bool:
        """Whether there is a compiler, and what it makes is a program that runs here."""
        compiler = shlex.split(os.environ.get("CC", "cc"))
        flags = ["-std=c99", "-O2", f'-DTASAK_VERSION="{self.metadata.version}"']
        source = Path(self.root, "native", "tasak.c")
        return any(status_of(*compiler, *flags, *link, "-o", command, source) == 0 and runs(command) for link in LINKS)


def runs(command: Path) -> bool:
    return status_of(command, env={"PATH": "/nowhere"}) == RUNS


def status_of(*command: str | Path, env: Mapping[str, str] | None = None) -> int | None:
    """How the command ends; None if it does not start."""
    try:
        return subprocess.run(command, env=env, capture_output=True, check=False).returncode
    except OSError:
        return None


def platform() -> str:
    """This machine's, by its plain name: what was linked here promises nothing about older systems."""
    return next(tag for tag in platform_tags() if not tag.startswith(("manylinux", "musllinux")))
