"""The witness of what a server was made to do: a line is written before the answer is."""

from pathlib import Path

# What a server writes when it learns that nobody waits for a call any more.
CANCEL = "cancel"


class Witness:
    """Words in the order in which they were noted; in the file `path`, where one is given, as well."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._words: list[str] = []

    def note(self, word: str) -> None:
        self._words.append(word)
        if self._path is not None:
            with self._path.open("a") as file:
                file.write(f"{word}\n")

    def words(self) -> list[str]:
        return list(self._words)
