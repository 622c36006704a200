"""Packed rows: sequences laid end to end, without padding, run in one forward pass.

Owns the packed batch; prefixes that every sequence reads, given as keys and values or as embeddings that run first;
caches, with which a sequence goes on in a later pass; and branches behind every sequence. How attention keeps them
apart is `attention`.

Linear layers, norms and embeddings see one row of all tokens, with positions that restart in each sequence. Only
attention needs to know where a sequence ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name the field uses
from torch import Tensor
from transformers import PreTrainedModel

from fewtune.engine.branches import Branches, count_tokens
from fewtune.engine.last_block import run_rows_alone
from fewtune.engine.options import DEFAULTS, EngineOptions
from fewtune.engine.to_device import to_device
from fewtune.models.architectures import architecture_of

FILLER = 0
"""The token that fills up a padded row; no token of the row reads it."""

KeysValues = tuple[Tensor, Tensor]
"""Keys and values of one layer, (1, heads, tokens, head) each."""
Layers = dict[int, KeysValues]
"""Keys and values by layer."""


@dataclass
class Prefix:
    """What every sequence reads first: `length` tokens, real or virtual; its tensors may carry gradients.

    `layers` holds their keys and values. Where these are not known, each pass runs `embeddings` (tokens, embedding
    width) first instead.
    """

    length: int
    layers: Layers = field(default_factory=dict)
    embeddings: Tensor | None = None

    def copy(self) -> Prefix:
        """The same in tensors of their own: a part of a larger one would keep all of it."""
        layers = {layer: (keys.clone(), values.clone()) for layer, (keys, values) in self.layers.items()}
        return replace(self, layers=layers)

    @property
    def size(self) -> int:
        """Bytes of the keys and values."""
        return sum(each.numel() * each.element_size() for pair in self.layers.values() for each in pair)


@dataclass(frozen=True)
class Packed:
    """Sequences end to end: `tokens` is (1, total tokens), `ends` the index of each sequence's last token.

    Behind all sequences come the branches of each one in turn, where there are any. `positions` is (1, tokens run):
    those of the prefix's embeddings, where it has any, come first.
    """

    tokens: Tensor
    positions: Tensor
    lengths: tuple[int, ...]
    ends: Tensor
    starts: Tensor
    """The index of each sequence's first token."""
    prefix: Prefix | None = None
    capture: Prefix | None = None
    """Where set, this pass stores there the keys and values of all that its last sequence reads, itself included."""
    caches: tuple[Layers, ...] = ()
    """One a sequence, where there are any: its own tokens of earlier passes, which it reads after the prefix; this pass
    adds its keys and values there."""
    branches: Branches | None = None
    """What follows every sequence in several ways; each reads its sequence, what that reads, and what leads to it."""
    after_attention: Callable[[], None] | None = None
    """Called after every layer's attention."""
    sequences: tuple[tuple[int, ...], ...] = ()
    """The tokens as they were given, each sequence its own."""
    options: EngineOptions = DEFAULTS
    reach: int = 0
    """Most tokens that any token reads, itself, the prefix and earlier passes included."""

    @property
    def embeddings(self) -> Tensor | None:
        """The prefix's embeddings, which this pass runs first; None where there are none."""
        return self.prefix.embeddings if self.prefix is not None else None

    @property
    def spans(self) -> list[int]:
        """Tokens of each span that this pass runs: the prefix's embeddings, where it has any, sequences, branches."""
        virtual = [] if self.embeddings is None else [len(self.embeddings)]
        return [*virtual, *self.lengths, *[self.branch_tokens] * len(self.lengths)]

    @property
    def own_lengths(self) -> list[int]:
        """Each sequence's tokens as given, without filling."""
        return list(map(len, self.sequences))

    @property
    def branch_tokens(self) -> int:
        """Tokens of the branches behind each sequence."""
        return count_tokens(self.branches)

    @property
    def branch_indices(self) -> Tensor:
        """Where the branches' tokens stand among the batch's, (sequences, branch tokens)."""
        first, count = sum(self.lengths), self.branch_tokens
        indices = torch.arange(first, first + len(self.lengths) * count, device=self.ends.device)
        return indices.view(len(self.lengths), count)


RUNNING_BATCH: ContextVar[Packed | None] = ContextVar("running batch", default=None)
"""The batch that a network runs right now, for layers to which a network hands nothing on."""


def pack(
    sequences: Sequence[Sequence[int]],
    device: torch.device,
    prefix: Prefix | None = None,
    caches: Sequence[Layers] = (),
    options: EngineOptions = DEFAULTS,
    branches: Branches | None = None,
    first_position: int = 0,
) -> Packed:
    """Lay token sequences end to end; positions continue those of the prefix, and of each sequence's cache.

    A row's first token has `first_position`.

    Caches are all empty, to be filled by this pass, or none is; then each sequence is one token. Sequences with caches
    have no branches.
    """
    given = tuple(map(tuple, sequences))
    lengths = own_lengths = tuple(map(len, given))
    if not lengths or min(lengths) == 0:
        raise ValueError("a packed batch needs at least one sequence, and every sequence a token")
    if caches and prefix is not None and prefix.embeddings is not None:
        raise ValueError("sequences that go on in later passes need a prefix whose keys and values are known")
    if any(caches) and (not all(caches) or max(lengths) > 1):
        raise ValueError("sequences that go on from their caches run one token each, and all of them go on")
    if caches and branches is not None:
        raise ValueError("sequences that go on in later passes have no branches")
    start = prefix.length if prefix is not None else 0
    rows: Sequence[Sequence[int]] = given
    if options.padded and not caches:
        lengths = (max(own_lengths),) * len(given)
        rows = [(*s, *[FILLER] * (lengths[0] - len(s))) for s in given]
    starts = [start + _count_cached(cache) for cache in caches] or [start] * len(lengths)
    behind = branches.tokens * len(given) if branches is not None else ()
    tokens = to_device(torch.tensor([t for row in rows for t in row] + list(behind))[None], device)
    virtual = start if prefix is not None and prefix.embeddings is not None else 0
    places = [torch.arange(virtual), *(torch.arange(at, at + n) for at, n in zip(starts, lengths, strict=True))]
    if branches is not None:
        depths = torch.tensor(branches.depths)
        places += [start + own - 1 + depths for own in own_lengths]
    positions = to_device(torch.cat(places)[None] + first_position, device)
    last = [end - n + own - 1 for end, n, own in zip(accumulate(lengths), lengths, own_lengths, strict=True)]
    ends = to_device(torch.tensor(last), device)
    reach = max(at + n for at, n in zip(starts, lengths, strict=True))
    starting = [end - n for end, n in zip(accumulate(lengths), lengths, strict=True)]
    return Packed(
        tokens,
        positions,
        lengths,
        ends,
        to_device(torch.tensor(starting), device),
        prefix,
        caches=tuple(caches),
        branches=branches,
        sequences=given,
        options=options,
        reach=reach + (max(branches.depths) if branches is not None else 0),
    )


def split_states(states: Tensor, batch: Packed) -> list[Tensor]:
    """A batch's states (total tokens, width) by sequence: its own tokens' and then its branches'."""
    own = states[: sum(batch.lengths)].split(batch.lengths)
    own = tuple(part[:length] for part, length in zip(own, batch.own_lengths, strict=True))
    if batch.branches is None:
        return list(own)
    return [torch.cat(parts) for parts in zip(own, states[batch.branch_indices], strict=True)]


def join_states(states: Sequence[Tensor], batch: Packed) -> Tensor:
    """The inverse of `split_states`, (total tokens, width): filling is zeros."""
    own = [part[:length] for part, length in zip(states, batch.own_lengths, strict=True)]
    if batch.options.padded:
        own = [F.pad(part, (0, 0, 0, length - len(part))) for part, length in zip(own, batch.lengths, strict=True)]
    behind = [] if batch.branches is None else [part[-batch.branch_tokens :] for part in states]
    return torch.cat([*own, *behind])


@dataclass(frozen=True)
class BlockOutput:
    """Output of one block, counted from 1: states (total tokens, width).

    Blocks of some architectures return a tuple; `besides` is the number of items after the states, None for a tensor.
    """

    block: int
    states: Tensor
    besides: int | None


def run_packed(
    network: PreTrainedModel, batch: Packed, resume: BlockOutput | None = None, token_indices: Tensor | None = None
) -> Tensor:
    """Final hidden states of every token, (total tokens, width), as the language-model head reads them.

    With `resume`, of this batch, only the blocks after that one run. With `token_indices`, the states of those tokens
    alone, (token indices, width): after the last block's attention no others run.
    """
    with _resume_after(network, resume):
        if token_indices is None:
            return _run_body(network, batch)
        if not batch.options.last_block_rows_only:
            return _run_body(network, batch)[token_indices]
        rows = (token_indices + _count_virtual(batch)).unique()
        with run_rows_alone(architecture_of(network).find_blocks(network)[-1], rows) as begin:
            return _run_body(network, replace(batch, after_attention=begin))[token_indices]


def run_to_block(network: PreTrainedModel, batch: Packed, block: int) -> BlockOutput:
    """The output of that block for every token; later blocks do not run."""

    def stop(module: torch.nn.Module, inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
        raise _BlockReached(output)

    hook = architecture_of(network).find_blocks(network)[block - 1].register_forward_hook(stop)
    try:
        _run_body(network, batch)
    except _BlockReached as reached:
        output = reached.output
        states, besides = (output, None) if isinstance(output, Tensor) else (output[0], len(output) - 1)
        return BlockOutput(block, _keep_sequences(states, batch), besides)
    finally:
        hook.remove()
    raise AssertionError("a pass through a network runs all its blocks")


class _BlockReached(Exception):  # noqa: N818 - not an error: it ends a pass that need not go on
    def __init__(self, output: Tensor | tuple[Tensor, ...]) -> None:
        super().__init__()
        self.output = output


def _run_body(network: PreTrainedModel, batch: Packed) -> Tensor:
    architecture = architecture_of(network)
    inputs = {"input_ids": batch.tokens}
    if batch.embeddings is not None:
        words = architecture.find_embeddings(network)(batch.tokens)
        inputs = {"inputs_embeds": torch.cat([batch.embeddings[None].to(words.dtype), words], 1)}
    body = architecture.find_body(network)
    before = RUNNING_BATCH.set(batch)
    try:
        output = body(**inputs, position_ids=batch.positions, use_cache=False, packing=batch)
    finally:
        RUNNING_BATCH.reset(before)
    return _keep_sequences(output.last_hidden_state, batch)


def _keep_sequences(states: Tensor, batch: Packed) -> Tensor:
    """The sequences' states, (total tokens, width), without those of virtual tokens before them."""
    return states[0, _count_virtual(batch) :]


@contextmanager
def _resume_after(network: PreTrainedModel, resume: BlockOutput | None) -> Iterator[None]:
    """Inside, the first blocks do not compute: they return the states that are given."""
    if resume is None:
        yield
        return
    output: Any = resume.states[None]
    if resume.besides is not None:
        output = (output, *[None] * resume.besides)
    skipped = list(architecture_of(network).find_blocks(network))[: resume.block]
    for block in skipped:
        block.forward = lambda *inputs, **named: output
    try:
        yield
    finally:
        for block in skipped:
            del block.forward  # the class's own again


def capture_prefix(batch: Packed, run: Callable[[Packed], object]) -> Prefix:
    """Keys and values of a batch's one sequence and of all that it reads; `run` runs a network over it."""
    before = batch.prefix.length if batch.prefix is not None else 0
    prefix = Prefix(before + batch.lengths[-1])
    run(replace(batch, capture=prefix))
    return prefix


def group_by_tokens(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Split rows, in order, into groups of at most `token_budget` tokens; a longer row is a group of its own."""
    groups: list[list[int]] = []
    used = token_budget
    for index, length in enumerate(lengths):
        if used + length > token_budget:
            groups.append([])
            used = 0
        groups[-1].append(index)
        used += length
    return groups


def shared_prefix_length(sequences: Sequence[Sequence[int]]) -> int:
    """Tokens that open every sequence alike, leaving each at least one of its own."""
    # What the first and the last in order share, all between them share too.
    ordered = sorted(tuple(s) for s in sequences)
    first, last = ordered[0], ordered[-1]
    limit = min(len(s) for s in sequences) - 1
    count = 0
    while count < limit and first[count] == last[count]:
        count += 1
    return count


def _count_virtual(batch: Packed) -> int:
    """Virtual tokens that a pass runs before its sequences."""
    return 0 if batch.embeddings is None else len(batch.embeddings)


def _count_cached(cache: Layers) -> int:
    return next((keys.shape[2] for keys, _ in cache.values()), 0)
