"""What the API says of itself is what it is: its document against its routes, and against a daemon that is asked."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasak import bodies
from tasak.openapi import READERS, document
from tasak.server import ROUTES, create_app
from tasak.service import Service
from tests.security.front import Front
from tests.security.people import Home

PAGE = Path(__file__).parents[2] / "docs" / "http-api.md"
EXAMPLES = 60

# What a call may truly end with: the server cannot be reached, or it is not known what it did.
CONFIG = """
[checks.not_a_server_error]
expected-statuses = ["2xx", "4xx", "502", "503", "504"]

[parameters]
"path.app" = "fast"
"""


@pytest.fixture
def front() -> Iterator[Front]:
    with Home() as home:
        yield Front(home)


def test_it_names_every_route_of_the_router(tmp_path):
    service = Service(gateway=None, instance="", uptime=float, stop=print)  # type: ignore[arg-type]  # nothing is asked of it
    router = create_app(service).router
    routed = {(route.method, route.resource.canonical) for route in router.routes() if route.resource}

    written = {(method.upper(), path) for path, methods in document(ROUTES)["paths"].items() for method in methods}

    assert routed == written


def test_the_page_has_every_route():
    headings = set(re.findall(r"^## `(\w+ /\S*)`$", PAGE.read_text(), re.MULTILINE))

    assert {f"{route.method} {route.path}" for route in ROUTES} == headings


def test_every_field_of_a_body_has_a_schema():
    assert set(READERS) >= {*bodies.CALL_FIELDS.values(), *bodies.LIST_FIELDS.values()}


def test_the_daemon_gives_it(front):
    answer = front.ask("socket", "GET", "/openapi.json")

    assert (200, "3.1.0") == (answer.status, json.loads(answer.body)["openapi"])


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_whatever_is_sent_the_daemon_answers_as_it_says(front, tmp_path):
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    command = [
        Path(sys.executable).with_name("schemathesis"),
        "run",
        f"http://127.0.0.1:{front.port}/openapi.json",
        "--url",
        f"http://127.0.0.1:{front.port}",
        "--header",
        f"Authorization: Bearer {front.token}",
        # It would end the daemon.
        "--exclude-path",
        "/shutdown",
        "--checks",
        "all",
        # What has the right form may still name a file or a tool that is not there.
        "--exclude-checks",
        "positive_data_acceptance",
        "--max-examples",
        str(EXAMPLES),
        "--generation-deterministic",
        "--no-color",
    ]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False)

    assert 0 == done.returncode, done.stdout[-8000:] + done.stderr[-2000:]
    assert front.shell.daemon_pid
    assert 200 == front.ask("tcp", "GET", "/metrics").status
