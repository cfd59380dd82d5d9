"""The two eras of MCP, as far as the pool must know of them."""

from typing import Literal

from tasak.errors import ConnectFailed
from tasak.plugin import Era

Spoken = Literal["auto", "handshake", "stateless"]
"""An app's `protocol:`; `auto` finds out."""

OTHER: dict[Era, Era] = {"handshake": "stateless", "stateless": "handshake"}


class AnotherEra(Exception):
    """The peer went away when it was greeted: it may only know `era`, of which one that is started afresh can tell."""

    def __init__(self, problem: ConnectFailed, era: Era) -> None:
        super().__init__(problem.message)
        self.problem = problem
        self.era = era
