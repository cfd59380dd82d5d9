"""How a user is reached who signs in."""

from collections.abc import Callable
from dataclasses import dataclass

Say = Callable[[str], None]
Ask = Callable[[], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """The one at the terminal."""

    opens_browser: bool
    say: Say
    """Shows a text."""
    ask: Ask | None
    """Waits for a line; "" when no more will come. None where nobody would answer."""
