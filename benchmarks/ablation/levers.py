"""The engine's speed levers: which works each touches, and the engine options under which it is off.

Owns the table of levers. Does not know how a work is timed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fewtune.engine.options import DEFAULTS, EngineOptions

FITS = ("all-weights", "lora", "last-blocks")
SCORING = ("score", "in-context", "teacher")


@dataclass(frozen=True)
class Lever:
    """What is on by default, the works it touches, and the options under which it is off.

    `in_float32`: it is off for a model loaded in that precision. `of_bfloat16`: in float32 there is nothing to switch.
    `loaded_anew`: it is off where a work reads the model from disk while the clock runs. `pages_given_back`: it is off
    where pages of memory that a fit leaves do not wait for the next.
    """

    title: str
    works: tuple[str, ...]
    off: EngineOptions = DEFAULTS
    in_float32: bool = False
    of_bfloat16: bool = False
    loaded_anew: bool = False
    pages_given_back: bool = False


EVERY_LEVER_ON = Lever("every lever on", ())

LEVERS: Mapping[str, Lever] = {
    "bfloat16": Lever("bfloat16 compute (off: float32)", (*FITS, *SCORING), in_float32=True, of_bfloat16=True),
    "packing": Lever(
        "rows packed (off: padded to the longest of a pass)", (*FITS, *SCORING), EngineOptions(padded=True)
    ),
    "read-alone": Lever(
        "last block runs what is read alone (off: every token)",
        (*FITS, *SCORING),
        EngineOptions(last_block_rows_only=False),
    ),
    "fused-blocks": Lever(
        "Llama's blocks in few operations (off: as Transformers runs them)",
        (*FITS, "score"),
        EngineOptions(fused_blocks=False),
    ),
    "few-products": Lever(
        "adapters in few products (off: PEFT's own layers)", ("lora",), EngineOptions(fused_adapters=False)
    ),
    "by-row": Lever(
        "embedding trained by the rows read (off: all rows)",
        ("all-weights",),
        EngineOptions(sparse_embedding_gradients=False),
    ),
    "written-out": Lever(
        "attention written out as matrix products (off: scaled-dot-product)",
        (*FITS, "score"),
        EngineOptions(longest_written_out=0),
    ),
    "side-by-side": Lever(
        "rows of alike lengths side by side in attention (off: of equal lengths only)",
        (*FITS, *SCORING),
        EngineOptions(most_padding=1.0),
    ),
    "kept-states": Lever(
        "frozen blocks' states kept (off: run at every step, apart)",
        ("last-blocks",),
        EngineOptions(kept_states_share=0.0),
    ),
    "frozen-apart": Lever(
        "frozen blocks apart and kept (off: in every whole pass)",
        ("last-blocks",),
        EngineOptions(separate_frozen_blocks=False),
    ),
    "shared-opening": Lever(
        "shared opening run once (off: for every row)",
        ("in-context", "teacher"),
        EngineOptions(shared_prefix=False),
    ),
    "held-in-bfloat16": Lever(
        "frozen matrices held in bfloat16 (off: cast at every pass)",
        ("lora", "last-blocks", *SCORING),
        EngineOptions(frozen_in_compute_dtype=False),
        of_bfloat16=True,
    ),
    "label-columns": Lever(
        "label words' columns of the head (off: whole vocabulary)",
        ("lora", "score"),
        EngineOptions(label_columns_only=False),
    ),
    "fused": Lever("fused AdamW (off: unfused)", FITS, EngineOptions(fused_optimiser=False)),
    "token-budget": Lever(
        "passes of up to 4096 tokens (off: one row a pass)", SCORING, EngineOptions(tokens_per_pass=1)
    ),
    "loaded-once": Lever("one loaded model a process (off: loaded a trial)", ("further-trial",), loaded_anew=True),
    "pages-kept": Lever("pages of weights and moments kept (off: given back)", ("further-fit",), pages_given_back=True),
    "scores-kept": Lever(
        "scores of frozen networks kept (off: scored in every trial)",
        ("further-scores",),
        EngineOptions(score_cache=False),
    ),
}


def find_levers(work: str, precision: str) -> list[str]:
    """The levers that touch a work on a machine that computes in this precision."""
    return [
        name
        for name, lever in LEVERS.items()
        if work in lever.works and (precision == "bfloat16" or not lever.of_bfloat16)
    ]
