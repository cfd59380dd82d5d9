"""The command `tasak`: the hot path first, then the full CLI with what that left. The only place that knows both."""

import sys

from tasak.client import fast


def main() -> None:
    handover = fast.run(sys.argv[1:])
    # Lazy: a warm call ends above.
    from tasak.cli.main import main as full

    sys.exit(full(sys.argv[1:], handover))


if __name__ == "__main__":
    main()
