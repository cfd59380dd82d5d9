"""The test kit for authors of transports: the contract as tests, honest servers, a proxy that spoils, a leak check.

Nothing in `tasak` imports it. `TransportContract` needs pytest with pytest-asyncio; each name loads its own module when
it is first used.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasak.testing.contract import TransportContract
    from tasak.testing.faults import Answers, CutOff, EndsEarly, Hangs, redirect
    from tasak.testing.http_server import HttpServer
    from tasak.testing.leaks import LeftBehind, no_leaks
    from tasak.testing.peer import ContractPeer
    from tasak.testing.proxy import FaultProxy, Plan, Way
    from tasak.testing.stdio_process import StdioServer

__all__ = [
    "Answers",
    "ContractPeer",
    "CutOff",
    "EndsEarly",
    "FaultProxy",
    "Hangs",
    "HttpServer",
    "LeftBehind",
    "Plan",
    "StdioServer",
    "TransportContract",
    "Way",
    "no_leaks",
    "redirect",
]

HOMES = {
    "contract": ("TransportContract",),
    "faults": ("Answers", "CutOff", "EndsEarly", "Hangs", "redirect"),
    "http_server": ("HttpServer",),
    "leaks": ("LeftBehind", "no_leaks"),
    "peer": ("ContractPeer",),
    "proxy": ("FaultProxy", "Plan", "Way"),
    "stdio_process": ("StdioServer",),
}


def __getattr__(name: str) -> Any:
    for module, names in HOMES.items():
        if name in names:
            if module == "contract":
                explain_asserts()
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def explain_asserts() -> None:
    """Have pytest show what the two sides of the contract's asserts were."""
    import pytest

    promises = f"{__name__}.promises"
    if promises not in sys.modules:
        pytest.register_assert_rewrite(promises)
