"""The engine's speed levers: which works each touches, and how it is switched off from outside.

Owns the switching, by the engine's own constants or by replacing one of its functions while a work is timed: the
package has no switches for it. Does not know how a work is timed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import torch
from torch.nn.utils.rnn import pad_sequence

from benchmarks.ablation import works
from benchmarks.race.material import Material
from fewtune.engine import attention, fit, frozen, packing
from fewtune.engine import forward as forward_module
from fewtune.engine import score as score_module
from fewtune.engine.forward import Forward
from fewtune.engine.packing import BlockOutput, Packed, Prefix, pack
from fewtune.engine.readers import LabelWordReader
from fewtune.methods import blocks
from fewtune.models import LanguageModel, load_model

FITS = ("all-weights", "lora", "last-blocks")
SCORING = ("score", "in-context", "teacher")
FILLER = 0
"""The token that fills up a padded row; no token of the row reads it."""

run_frozen_blocks, pack_rows, AdamW = frozen.FrozenBlocks.run, Forward.pack, torch.optim.AdamW
run_packed = packing.run_packed


@dataclass(frozen=True)
class Lever:
    """What is on by default, the works it touches, and the context in which it is off for a loaded model.

    `in_float32`: it is off for a model loaded in that precision. `of_bfloat16`: in float32 there is nothing to switch.
    """

    title: str
    works: tuple[str, ...]
    off: Callable[[LanguageModel], AbstractContextManager[object]]
    in_float32: bool = False
    of_bfloat16: bool = False


@contextmanager
def change_nothing(model: LanguageModel) -> Iterator[None]:
    """For a lever that the loaded model decides."""
    yield


@contextmanager
def pad_rows(model: LanguageModel) -> Iterator[None]:
    """Every sequence of a pass as long as its longest."""
    with patch.object(Forward, "pack", _pack_padded), patch.object(frozen.FrozenBlocks, "run", _run_padded):
        yield


def _pack_padded(
    forward: Forward, sequences: Sequence[Sequence[int]], prefix: Prefix | None = None, caches: Sequence[Any] = ()
) -> Packed:
    width = max(map(len, sequences))
    batch = pack_rows(forward, [[*s, *[FILLER] * (width - len(s))] for s in sequences], prefix, caches)
    lengths = torch.tensor([len(s) for s in sequences], device=batch.ends.device)
    return replace(batch, ends=batch.ends - width + lengths)


def _run_padded(kept: frozen.FrozenBlocks, batch: Packed) -> BlockOutput:
    """What is kept of frozen blocks is kept by a row's own tokens, padded or not, so that this lever moves no other."""
    first = torch.arange(len(batch.lengths), device=batch.ends.device) * batch.lengths[0]
    lengths = (batch.ends + 1 - first).tolist()
    rows = [row[:n].tolist() for row, n in zip(batch.tokens[0].split(batch.lengths), lengths, strict=True)]
    output = run_frozen_blocks(kept, pack(rows, batch.tokens.device))
    states = pad_sequence(list(output.states.split(lengths)), batch_first=True)
    return BlockOutput(output.block, states.flatten(0, 1), output.besides)


def set_attention(constant: str, value: float) -> Callable[[LanguageModel], AbstractContextManager[object]]:
    """Attention under another constant; what was laid out under the old one is forgotten."""

    @contextmanager
    def change(model: LanguageModel) -> Iterator[None]:
        with patch.object(attention, constant, value):
            attention._lay_out.cache_clear()
            yield
        attention._lay_out.cache_clear()

    return change


@contextmanager
def keep_no_states(model: LanguageModel) -> Iterator[None]:
    """Frozen blocks run at every step, apart from the others and without gradients."""
    frozen.limit_kept_states(0.0)
    try:
        yield
    finally:
        frozen.limit_kept_states(frozen.SHARE_OF_MEMORY)


@contextmanager
def see_no_frozen_blocks(model: LanguageModel) -> Iterator[None]:
    """Frozen blocks run at every step as a part of the whole network."""
    with patch.object(frozen, "count_frozen_blocks", lambda network: 0):
        yield


@contextmanager
def share_no_opening(model: LanguageModel) -> Iterator[None]:
    """What opens every prompt alike runs for each: score_prompts with share_prefix=False."""
    with patch.object(Forward, "share_opening", lambda forward, prompts: (None, 0)):
        yield


@contextmanager
def hold_float32(model: LanguageModel) -> Iterator[None]:
    """Frozen matrices in float32, cast at every pass."""

    with patch.object(model, "_frozen", model._master):
        yield


@contextmanager
def read_whole_vocabulary(model: LanguageModel) -> Iterator[None]:
    """Label words' scores from the language-model head over all tokens."""

    def read(label_tokens: Sequence[Sequence[int]], over: str) -> LabelWordReader:
        return LabelWordReader(label_tokens, "vocabulary")

    with patch.object(blocks, "LabelWordReader", read):
        yield


@contextmanager
def step_unfused(model: LanguageModel) -> Iterator[None]:
    """AdamW as PyTorch steps it by default on a processor."""

    def make(groups: Any, **options: Any) -> torch.optim.AdamW:
        return AdamW(groups, **{**options, "fused": False})

    with patch.object(torch.optim, "AdamW", make):
        yield


@contextmanager
def score_row_by_row(model: LanguageModel) -> Iterator[None]:
    """One row a pass."""
    with patch.object(score_module, "TOKENS_A_PASS", 1):
        yield


def replace_in(module: Any, name: str, value: Any) -> Callable[[LanguageModel], AbstractContextManager[object]]:
    """Something else in place of what a module of the engine calls by that name."""
    return lambda model: patch.object(module, name, value)


def _run_whole(network: Any, batch: Packed, resume: Any = None, spots: torch.Tensor | None = None) -> torch.Tensor:
    states = run_packed(network, batch, resume)
    return states if spots is None else states[spots]


@contextmanager
def load_every_time(model: LanguageModel) -> Iterator[None]:
    """A further trial reads the model from disk."""

    def load(material: Material, loaded: LanguageModel) -> LanguageModel:
        return load_model(material.place, loaded.precision)

    with patch.object(works, "take_model", load):
        yield


LEVERS: Mapping[str, Lever] = {
    "bfloat16": Lever(
        "bfloat16 compute (off: float32)", (*FITS, *SCORING), change_nothing, in_float32=True, of_bfloat16=True
    ),
    "packing": Lever("rows packed (off: padded to the longest of a pass)", (*FITS, *SCORING), pad_rows),
    "read-alone": Lever(
        "last block runs what is read alone (off: every token)",
        (*FITS, *SCORING),
        replace_in(forward_module, "run_packed", _run_whole),
    ),
    "few-products": Lever(
        "adapters in few products (off: PEFT's own layers)",
        ("lora",),
        replace_in(forward_module, "find_plain_adapters", lambda network: []),
    ),
    "by-row": Lever(
        "embedding trained by the rows read (off: all rows)",
        ("all-weights",),
        replace_in(fit, "gradients_by_row", lambda modules: nullcontext()),
    ),
    "written-out": Lever(
        "attention written out as matrix products (off: scaled-dot-product)",
        (*FITS, "score"),
        set_attention("LONGEST_WRITTEN_OUT", 0),
    ),
    "side-by-side": Lever(
        "rows of alike lengths side by side in attention (off: of equal lengths only)",
        (*FITS, *SCORING),
        set_attention("MOST_PADDING", 1.0),
    ),
    "kept-states": Lever(
        "frozen blocks' states kept (off: run at every step, apart)", ("last-blocks",), keep_no_states
    ),
    "frozen-apart": Lever(
        "frozen blocks apart and kept (off: in every whole pass)", ("last-blocks",), see_no_frozen_blocks
    ),
    "shared-opening": Lever(
        "shared opening run once (off: for every row)", ("in-context", "teacher"), share_no_opening
    ),
    "held-in-bfloat16": Lever(
        "frozen matrices held in bfloat16 (off: cast at every pass)",
        ("lora", "last-blocks", *SCORING),
        hold_float32,
        of_bfloat16=True,
    ),
    "label-columns": Lever(
        "label words' columns of the head (off: whole vocabulary)", ("lora", "score"), read_whole_vocabulary
    ),
    "fused": Lever("fused AdamW (off: unfused)", FITS, step_unfused),
    "token-budget": Lever("passes of up to 4096 tokens (off: one row a pass)", SCORING, score_row_by_row),
    "loaded-once": Lever("one loaded model a process (off: loaded a trial)", ("further-trial",), load_every_time),
}


def find_levers(work: str, precision: str) -> list[str]:
    """The levers that touch a work on a machine that computes in this precision."""
    return [
        name
        for name, lever in LEVERS.items()
        if work in lever.works and (precision == "bfloat16" or not lever.of_bfloat16)
    ]
