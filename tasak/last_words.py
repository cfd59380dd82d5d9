"""What a program wrote before it failed, below the message that says so."""

from collections.abc import Sequence

# As many of its last lines as a reader takes in.
QUOTED_LINES = 10


def with_last_words(message: str, lines: Sequence[str]) -> str:
    return "\n".join([message, *(f"  | {line}" for line in lines[-QUOTED_LINES:])])
