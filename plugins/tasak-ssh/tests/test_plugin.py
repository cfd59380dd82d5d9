"""The package, as TASAK finds it."""

import subprocess
import sys
from importlib.metadata import entry_points

import pytest
from jsonschema import Draft202012Validator

import tasak_ssh
from tasak_ssh.options import Options

# The modules of which each costs more than all of this package.
DEAR = ("asyncssh", "cryptography", "mcp", "pydantic")


def test_it_is_found_by_its_entry_point():
    (point,) = entry_points(group="tasak.transports", name="ssh")

    assert tasak_ssh is point.load()


def test_loading_it_loads_nothing_dear():
    script = f"import tasak_ssh, sys; print([name for name in {DEAR} if name in sys.modules])"

    ran = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)

    assert "[]" == ran.stdout.strip()


def test_its_schema_is_one():
    Draft202012Validator.check_schema(tasak_ssh.transport_schema())


FITTING = [
    {"host": "far", "command": "server"},
    {"host": "::1", "port": 22, "user": "me", "command": ["server", 1], "directory": "~/work", "env": {"A": 1}},
    {"host": "far", "command": "server", "identity_file": "~/.ssh/key", "known_hosts": "/k", "config": "~/c"},
    {"host": "far", "command": "server", "identity_file": ["/a", "~/b"], "agent": False, "connect_timeout": 0.5},
    {"host": "far", "command": "server", "agent": "/run/agent"},
]
WRONG = [
    {"command": "server"},
    {"host": "far"},
    {"host": "me@far", "command": "server"},
    {"host": "far", "command": []},
    {"host": "far", "command": "server", "port": 0},
    {"host": "far", "command": "server", "env": {"NOT A NAME": "1"}},
    {"host": "far", "command": "server", "env": {"A": True}},
    {"host": "far", "command": "server", "identity_file": "key"},
    {"host": "far", "command": "server", "connect_timeout": 0},
    {"host": "far", "command": "server", "password": "secret"},
]


@pytest.mark.parametrize("options", FITTING)
def test_options_that_fit(options):
    Draft202012Validator(tasak_ssh.transport_schema()).validate(options)

    assert options["host"] == Options.parse(options).host


@pytest.mark.parametrize("options", WRONG)
def test_options_that_do_not_fit(options):
    assert not Draft202012Validator(tasak_ssh.transport_schema()).is_valid(options)
