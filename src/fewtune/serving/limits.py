"""Limits of a server: what it accepts, and how rows are batched.

Owns the numbers and their defaults.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RequestLimits:
    """Bounds of one request, of a batch and of the queue."""

    header_bytes: int = 64 * 2**10
    """Bytes of a request's first line and headers."""
    receive_seconds: float = 30.0
    """How long a request's header, and then its body, may take to arrive."""
    body_bytes: int = 2 * 2**20
    """Bytes of a request's body."""
    rows: int = 256
    """Rows of a request."""
    characters: int = 20_000
    """Characters of one text."""
    waiting_rows: int = 1024
    """Rows that wait for the model, of all requests; one request is always taken while none wait."""
    batch_rows: int = 64
    """Rows that are scored in one call of the model."""
    window_seconds: float = 0.005
    """How long the first row of a batch waits for others."""
