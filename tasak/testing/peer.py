"""The peer that a contract is held to: how it is reached, and what a test may do to it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractPeer:
    """One server that is there for one test. What is optional lets a test be run that is skipped otherwise."""

    options: Mapping[str, Any]
    """The app as a config file has it, without its `transport`; common keys such as `protocol` may be among them."""
    cut: Callable[[], Awaitable[None]]
    """The server is gone at once, with all its connections: `kill -9`, or as good as that."""
    executed: Callable[[], Sequence[str]] | None = None
    """The witness: the name of each tool that was begun, in order, and `cancel` for each call that was cancelled."""
    frozen: Callable[[], AbstractAsyncContextManager[None]] | None = None
    """Meanwhile the server is there and does nothing: `kill -STOP`, or as good as that."""
    unreachable: Mapping[str, Any] | None = None
    """Options that lead to no server. Without them it is `options`, once the server was cut off."""
    apps: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Other apps of the same config, for one that is made of others; here each says its `transport`, or implies it."""
