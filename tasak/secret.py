"""A string that nobody sees by accident."""

HIDDEN = "<secret>"


class Secret(str):
    """A string whose `repr` does not say what it is.

    So neither do those of what holds it: a mapping, a dataclass, an exception's arguments, a task's result. It is
    itself where it is used as a string: in a header, in an environment, as JSON.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return HIDDEN
