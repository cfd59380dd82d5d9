"""The package as TASAK sees it."""

import subprocess
import sys
from importlib.metadata import entry_points

import pytest
from jsonschema import Draft202012Validator

import tasak_rest

HEAVY = ("fastmcp", "httpx2", "jsonschema", "mcp", "mcp_types", "pydantic", "yaml")


def test_it_is_the_transport_rest():
    (point,) = entry_points(group="tasak.transports", name="rest")

    assert tasak_rest is point.load()


def test_its_schema_is_one():
    Draft202012Validator.check_schema(tasak_rest.transport_schema())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"openapi": ""},
        {"openapi": "a.json", "base_url": "ftp://a"},
        {"openapi": "a.json", "headers": {"A": True}},
        {"openapi": "a.json", "headers": {"A B": "c"}},
        {"openapi": "a.json", "include": "a"},
        {"openapi": "a.json", "timeout": 0},
        {"openapi": "a.json", "timeouts": 5},
    ],
)
def test_wrong_options_do_not_fit(options):
    assert not Draft202012Validator(tasak_rest.transport_schema()).is_valid(options)


def test_listing_plugins_loads_none_of_what_connecting_needs():
    script = f"import sys, tasak_rest; print(*[name for name in {HEAVY} if name in sys.modules])"

    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()

    assert [] == loaded
