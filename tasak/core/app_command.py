"""A command line of the config: split into words, and its program found on the caller's PATH."""

import os
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

from tasak.errors import BadConfig, ConnectFailed

# Quoted as `shlex` reads it, or a dollar of ours, with whatever is in its default.
_PLAIN = re.compile(
    r"""\\. | '[^']*' | "(?:\\.|[^"\\])*" | \$\$ | \$\{(?: [^}'"\\] | \\. | '[^']*' | "(?:\\.|[^"\\])*" )*\}""",
    re.DOTALL | re.VERBOSE,
)
_OPERATOR = re.compile(r"[;|&<>$`\n]")


def split(command: Any, args: Any, where: str) -> list[str]:
    """The words of `command`: a list as it is, a string split as a shell would, but by no shell.

    With `args` beside it, a string is one word. What is in a word is not looked at: split before values are filled
    in, so that no value adds a word.

    Raises:
        BadConfig: unbalanced quotes, what only a shell would act upon, something else than a word, or no word at all.
    """
    words = command if isinstance(command, list) else [command] if args is not None else _split(command, where)
    if args is not None and not isinstance(args, list):
        raise BadConfig(f"{where}: 'args' has to be a list of words")
    found = [_word(word, where) for word in [*words, *(args or [])]]
    if not found:
        raise BadConfig(f"{where}: the command is empty")
    return found


def program(word: str, *, folder: Path, path: str, caller_cwd: Path | None, where: str) -> str:
    """The absolute path of the program that `word` names: on `path`, or with a slash in it, from `folder`.

    Raises:
        BadConfig: the word is empty.
        ConnectFailed: there is no such program.
    """
    if not word:
        raise BadConfig(f"{where}: the command is empty")
    if "/" in word:
        found, fix = _executable(str(folder / word)), f"is it there, and executable? {folder / word}"
    else:
        found, fix = _on_path(word, path, caller_cwd), f"install it, or put its folder on PATH, which is {path!r}"
    if found is None:
        raise ConnectFailed(f"{where}: there is no program {word!r}", fix=fix)
    return found


def _split(command: Any, where: str) -> list[str]:
    if not isinstance(command, str):
        raise BadConfig(f"{where}: the command has to be a string or a list of words")
    try:
        words = shlex.split(command)
    except ValueError as problem:
        raise BadConfig(f"{where}: the command cannot be split: {problem}", fix="write it as a list of words") from None
    # The newline at the end is YAML's.
    if operator := _OPERATOR.search(_PLAIN.sub("", command.strip())):
        fix = "quote it, or write the command as a list of words: command: [npx, server]"
        raise BadConfig(
            f"{where}: {operator[0]!r} is not quoted in the command, which no shell runs",
            fix=f"a variable is written ${{NAME}}; else {fix}" if operator[0] == "$" else fix,
        )
    return words


def _word(word: object, where: str) -> str:
    if isinstance(word, bool) or not isinstance(word, str | int | float):
        raise BadConfig(f"{where}: a word of the command is no string", fix="quote it")
    return str(word)


def folders_of_path(path: str, cwd: Path | None) -> list[str]:
    """The folders in which a program is looked for. A relative one is the caller's; else it would be the daemon's."""
    folders = [entry if os.path.isabs(entry) else cwd and str(cwd / entry) for entry in path.split(os.pathsep)]
    return [folder for folder in folders if folder]


def _on_path(name: str, path: str, cwd: Path | None) -> str | None:
    try:
        return shutil.which(name, path=os.pathsep.join(folders_of_path(path, cwd)))
    except ValueError:  # a NUL, or text that is no file name
        return None


def _executable(path: str) -> str | None:
    try:
        return path if os.path.isfile(path) and os.access(path, os.X_OK) else None
    except ValueError:
        return None
