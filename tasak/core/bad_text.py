"""What the text of a config may not be, whatever language it is in."""

# A bomb of aliases runs these out: both count a value each time that it is referred to.
MAX_NODES = 100_000
MAX_DEPTH = 64

TOO_LARGE = "it is too large, or its aliases make it so"
TOO_DEEP = "it is nested too deeply"


class BadText(Exception):
    """What is wrong with a text, and on which line where that is known."""
