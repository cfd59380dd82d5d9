"""The name that was probably meant, for errors that say `did you mean`."""

from collections.abc import Iterable
from difflib import get_close_matches
from itertools import islice

# Comparing costs the product of both lengths, and the names are a server's or a caller's. Names are shorter than this.
LONGEST = 100
MOST = 1000


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The one of `known` that is most like `name`, if any is like it at all."""
    if len(name) > LONGEST:
        return None
    spellings = {spelling(other): other for other in islice(known, MOST) if len(other) <= LONGEST}
    found = get_close_matches(spelling(name), spellings, n=1)
    return spellings[found[0]] if found else None


def spelling(name: str) -> str:
    return name.casefold().replace("-", "_")
