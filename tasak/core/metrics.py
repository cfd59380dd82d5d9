"""What is counted, for `GET /metrics`: labels are apps and bounded words, never what a caller or a server wrote."""

from functools import cache
from typing import Any, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest

End = Literal["ok", "tool_error", "executed", "not_executed", "unknown", "refused"]
Operation = Literal["list", "call"]

# From a warm call of a fast server to the longest that a call may take.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 600)


class Metrics:
    """One process's counters. What comes with every call is looked up by its labels, once for each set of them."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        requests = Counter(
            "tasak_requests", "Requests by app, operation and end", ["app", "operation", "end"], registry=self._registry
        )
        seconds = Histogram(
            "tasak_request_seconds",
            "How long requests took",
            ["app", "operation"],
            buckets=BUCKETS,
            registry=self._registry,
        )
        connects = Counter(
            "tasak_sessions", "Sessions that calls found, by kind", ["app", "mark"], registry=self._registry
        )
        self.requests = cache(requests.labels)
        self.seconds = cache(seconds.labels)
        self.connects = cache(connects.labels)
        self.retries = Counter("tasak_retries", "Calls sent once more", ["app"], registry=self._registry)
        self.cached_lists = Counter(
            "tasak_tool_lists", "Tool lists, by where they came from", ["app", "source"], registry=self._registry
        )
        self.connections = Gauge("tasak_connections", "Connections by state", ["state"], registry=self._registry)
        self.tasks = Gauge("tasak_tasks", "asyncio tasks that are alive", registry=self._registry)
        self.uptime = Gauge("tasak_uptime_seconds", "Since the daemon's process started", registry=self._registry)

    def as_text(self) -> bytes:
        """Prometheus's text format, 0.0.4."""
        text: bytes = generate_latest(self._registry)
        return text

    def as_json(self) -> dict[str, Any]:
        """The same, by metric name: a list of `{"labels": …, "value": …}` each."""
        return {
            sample.name: [
                {"labels": each.labels, "value": each.value} for each in family.samples if each.name == sample.name
            ]
            for family in self._registry.collect()
            for sample in family.samples
        }
