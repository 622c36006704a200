"""What a decision must guarantee, as users write it.

Owns the names. The command line reads them without the packages that records and studies need.
"""

from __future__ import annotations

from typing import Literal

Guarantee = Literal["expected_loss", "bound"]
"""A small expected loss and risk, or a regret bound within the tolerance."""
