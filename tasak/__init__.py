"""TASAK: warm, stateful tool servers for shell commands."""

__version__ = "0.2.0"
