"""Prometheus metrics of a server.

Owns the names of the series. Format: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from fewtune.serving.batching import Batch

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Metrics:
    """Counts of one server; each has a registry of its own, so that several stand in one process."""

    def __init__(self, count_waiting: Callable[[], int]) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter("fewtune_requests", "Requests answered.", ["path", "status"], registry=registry)
        self._seconds = Histogram(
            "fewtune_request_seconds", "Seconds to an answer.", ["path"], registry=registry, buckets=_SECONDS
        )
        self._rows = Counter("fewtune_rows", "Rows scored.", registry=registry)
        self._batch_rows = Histogram(
            "fewtune_batch_rows", "Rows scored in one call of the model.", registry=registry, buckets=_ROWS
        )
        self._batches = Counter("fewtune_batches", "Calls of the model that gave answers.", registry=registry)
        self._model_seconds = Counter("fewtune_model_seconds", "Seconds that the model ran.", registry=registry)
        queue = Gauge("fewtune_queue_rows", "Rows that wait for the model.", registry=registry)
        queue.set_function(count_waiting)

    def count_request(self, path: str, status: int, seconds: float) -> None:
        """Count an answered request; `path` is one that the server has, or `other`."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def count_batch(self, batch: Batch) -> None:
        """Count one call of the model."""
        self._batches.inc()
        self._rows.inc(batch.rows)
        self._batch_rows.observe(batch.rows)
        self._model_seconds.inc(batch.seconds)

    def write(self) -> bytes:
        """All counts in Prometheus's text format."""
        return generate_latest(self._registry)
