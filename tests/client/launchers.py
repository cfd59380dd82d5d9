"""Both launchers, each started as a process of its own: that in Python, and that in C, compiled here."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

import tasak
from tests.client.daemon_stub import PATIENCE

ROOT = Path(tasak.__file__).parents[1]
SOURCE = ROOT / "native" / "tasak.c"

WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Wformat=2", "-Werror"]
FLAGS = ["-std=c99", "-O2", f'-DTASAK_VERSION="{tasak.__version__}"', *WARNINGS]
SANITIZERS = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]

Word = str | bytes

# Tells as JSON what was handed over; the reply is read as the full CLI reads it.
TELL = """
import _signal, json, sys
told = {
    "state": left.state,
    "reply": None,
    "sigint": _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler,
    "sigpipe": _signal.getsignal(_signal.SIGPIPE) is _signal.SIG_IGN,
}
if left.reply is not None:
    import http.client, os, socket
    reply = socket.socket(fileno=left.reply.detach())
    told["blocking"] = os.get_blocking(reply.fileno())
    reply.settimeout(20)
    response = http.client.HTTPResponse(reply, method="POST")
    try:
        response.begin()
        told["reply"] = [response.status, response.read().decode()]
    except (http.client.HTTPException, OSError) as failure:
        told["reply"] = type(failure).__name__
sys.stderr.write("handover " + json.dumps(told))
"""
CALL_IN_PYTHON = f"import sys\nfrom tasak.client import fast\nleft = fast.run(sys.argv[1:])\n{TELL}"
TAKE_OVER = f"from tasak.client import native\nleft = native.take()\n{TELL}"

# What an installer makes of the entry point.
TASAK_PY = "import sys\nfrom tasak.__main__ import take_over\nsys.exit(take_over())\n"

# What an operating system can hand a process: anything but NUL; weighted towards what JSON and UTF-8 stumble on.
words_of_bytes = st.lists(
    st.one_of(
        st.binary(max_size=8),
        st.text(max_size=8, alphabet=st.characters(exclude_categories=["Cs"])).map(str.encode),
        st.sampled_from(
            [b'"', b"\\", b"\\u", b"\x7f", b"\n", b"\x1f", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc3", b"\xa9"]
        ),
    ),
    max_size=6,
).map(lambda pieces: b"".join(pieces).replace(b"\0", b""))


@dataclass(frozen=True, slots=True)
class Launcher:
    """`telling` ends with what was handed over, as JSON on stderr; `whole` goes on as the full CLI."""

    name: str
    telling: tuple[Word, ...]
    whole: tuple[Word, ...]

    def command(self, *words: Word) -> list[Word]:
        return [*self.telling, *words]

    def call(self, home: Path | str | None, *words: Word, **how: Any) -> "subprocess.CompletedProcess[bytes]":
        return run(self.command(*words), home, **how)


def run(command: Sequence[Word], home: Path | str | None, **how: Any) -> "subprocess.CompletedProcess[bytes]":
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment(home), "timeout": PATIENCE} | how
    return subprocess.run(command, check=False, **how)


def environment(home: Path | str | None, **more: Word) -> dict[str, Word]:
    names: dict[str, Word] = {"PATH": os.defpath, "PYTHONPATH": str(ROOT)}
    return names | ({} if home is None else {"HOME": str(home)}) | more


def handover(ended: "subprocess.CompletedProcess[bytes]") -> dict[str, Any]:
    assert ended.stderr.startswith(b"handover "), ended.stderr
    found: dict[str, Any] = json.loads(ended.stderr.removeprefix(b"handover "))
    return found


def state(ended: "subprocess.CompletedProcess[bytes]") -> str:
    found: str = handover(ended)["state"]
    return found


def in_python() -> Launcher:
    return Launcher("python", (sys.executable, "-c", CALL_IN_PYTHON), (sys.executable, "-m", "tasak"))


def in_c(folder: Path, *more_flags: str) -> Launcher:
    """The same, compiled into the folder."""
    telling, whole = folder / "telling", folder / "whole"
    for place, program in ((telling, TAKE_OVER), (whole, TASAK_PY)):
        place.mkdir()
        write_script(place / "tasak-py", f"#!{sys.executable}\n{program}")
    compile_program(telling / "tasak", *more_flags)
    shutil.copy(telling / "tasak", whole / "tasak")
    return Launcher("native", (str(telling / "tasak"),), (str(whole / "tasak"),))


def compile_program(program: Path, *more_flags: str) -> None:
    subprocess.run(["cc", *FLAGS, *more_flags, "-o", program, SOURCE], check=True)


def write_script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


# What the launcher in C makes of an answer, for Python to call.
READING = """
#define main launcher
#include "tasak.c"
#undef main
int reads_as_plain(const char *seen, long long told[3]);
int reads_as_plain(const char *seen, long long told[3])
{
    struct answer answer;

    if (!plain_answer(seen, &answer))
        return 0;
    told[0] = (long long)answer.head;
    told[1] = answer.length;
    told[2] = answer.status;
    return 1;
}
"""


def compile_library(folder: Path) -> Path:
    library = folder / "reading.so"
    subprocess.run(
        ["cc", *FLAGS, "-shared", "-fPIC", "-I", SOURCE.parent, "-x", "c", "-o", library, "-"],
        input=READING.encode(),
        check=True,
    )
    return library
