"""Seeds every random generator from named axes, the same on every machine."""

from __future__ import annotations

import hashlib

import numpy as np

from fewtune.study.identity import write_canonically


def derive_seed(*axes: str | int) -> int:
    """A seed of 63 bits from named axes, such as ("draw", "cola", 16, 0); the same on every machine."""
    digest = hashlib.sha256(write_canonically(list(axes))).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def make_rng(*axes: str | int) -> np.random.Generator:
    """A generator seeded by `derive_seed`."""
    return np.random.default_rng(derive_seed(*axes))
