"""The HTTP clients of tests."""

from typing import Any

import httpx2

from tasak.transports.web import shared_tls

PATIENCE = 20.0


def http_client(**options: Any) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(verify=shared_tls(), timeout=PATIENCE, **options)
