"""The command `tasak`: the hot path first, then the full CLI with what that left. The only place that knows both."""

import os
import sys

from tasak.client import fast

TYPE_CHECKING = False  # importing `typing` costs about as much as the whole start
if TYPE_CHECKING:
    from typing import NoReturn

    from tasak.cli.asked import Launcher


def main() -> "NoReturn":
    """The whole of it: where there is no native launcher, and as `python -m tasak`."""
    finish(fast.run(sys.argv[1:]), "python")


def take_over() -> "NoReturn":
    """The command `tasak-py`, which the native launcher becomes with what it left; by itself, the whole as well."""
    if not sys.flags.safe_path:
        del sys.path[0]  # the folder of the script: no place for modules
    # Lazy: `main` does without it.
    from tasak.client import native

    left = native.take()
    if left is None:
        main()
    finish(left, "native")


def finish(left: fast.Handover, launcher: "Launcher") -> "NoReturn":
    # Lazy: a warm call ends before.
    from tasak.cli.main import main as full

    status = full(sys.argv[1:], left, launcher)
    # A thread of a plugin's would have the shell wait for it.
    os._exit(status)


if __name__ == "__main__":
    main()
