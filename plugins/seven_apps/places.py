"""Where the servers listen."""

import socket


def listening(port: int) -> socket.socket:
    """A socket that takes connections from now on, which is told by printing its port; 0 is any that is free."""
    # The protocol is said outright: asyncio turns Nagle's delay off only where it is.
    place = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    place.bind(("127.0.0.1", port))
    place.listen()
    print(place.getsockname()[1], flush=True)  # noqa: T201 - whoever started the server reads it
    return place
