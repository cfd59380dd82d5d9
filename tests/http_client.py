"""The HTTP clients of tests."""

import functools
import ssl
from typing import Any

import httpx2

PATIENCE = 20.0


@functools.cache
def trusted() -> ssl.SSLContext:
    """Takes 25 ms: the tests share one."""
    return httpx2.create_ssl_context()


def http_client(**options: Any) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(verify=trusted(), timeout=PATIENCE, **options)
