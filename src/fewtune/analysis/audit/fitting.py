"""Audit rules for fits that did not do what their settings say.

Owns the rules about losses, parameter groups, rates and tuning. Sources: in arXiv 2405.13181's released code decayed
rates looked for parameter names that do not exist, LoRA got the rate of full fine-tuning, and a loss was NaN.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator

from fewtune.analysis.audit.finding import Evidence, Finding, format_group, format_where, ids_of
from fewtune.analysis.leaderboard import group_records
from fewtune.plurals import pluralise
from fewtune.records import Record

LOWEST_ADAPTER_RATE = 1e-4
"""Below it a low-rank adapter has a rate made for all weights: published ones that work are 2e-4 to 3e-3
(https://arxiv.org/abs/2106.09685; https://thinkingmachines.ai/blog/lora/)."""


def find_losses_not_finite(evidence: Evidence) -> Iterator[Finding]:
    """Fits that diverged: a loss or score that is no number."""
    cells: dict[str, list[Record]] = defaultdict(list)
    for record in evidence.records:
        diverged = record.failure is not None and record.failure.kind == "diverged"
        losses = record.notes.fit.losses
        if diverged or any(loss is None or not math.isfinite(loss) for loss in losses):
            cells[format_where(record)].append(record)
    for where, records in cells.items():
        yield Finding(
            rule="losses not finite",
            severity="error",
            where=where,
            reason=f"{pluralise(len(records), 'trial')} had a loss or score that is no number",
            remedy="Lower the learning rate, keep 32-bit master weights, and look at what the loss is computed from.",
            trials=ids_of(records),
        )


def find_groups_without_effect(evidence: Evidence) -> Iterator[Finding]:
    """Parameter groups that matched no tensor or never had a rate above zero."""
    cells: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in evidence.done:
        for group in record.notes.fit.groups:
            if group.tensors == 0:
                cells[format_where(record), f"{group.name} matched no tensor"].append(record)
            elif max(group.rates or [1.0]) == 0:
                cells[format_where(record), f"{group.name} never had a learning rate above 0"].append(record)
    for (where, what), records in cells.items():
        yield Finding(
            rule="groups without effect",
            severity="error",
            where=where,
            reason=f"parameter group {what}, in {pluralise(len(records), 'trial')}",
            remedy="What was meant to train did not: correct the names or the schedule, and run anew.",
            trials=ids_of(records),
        )


def find_decay_not_applied(evidence: Evidence) -> Iterator[Finding]:
    """Layer-wise decayed rates that are the same in every block."""
    cells: dict[str, list[Record]] = defaultdict(list)
    for record in evidence.done:
        decay = record.trial.settings.get("decay")
        blocks = [group for group in record.notes.fit.groups if group.name.startswith("block")]
        rates = {group.peak_learning_rate for group in blocks}
        if isinstance(decay, float) and decay < 1 and len(blocks) > 1 and len(rates) == 1:
            cells[format_where(record)].append(record)
    for where, records in cells.items():
        yield Finding(
            rule="decay not applied",
            severity="error",
            where=where,
            reason="rates are to decay from block to block, yet all blocks had the same in "
            f"{pluralise(len(records), 'trial')}",
            remedy="The rule for telling blocks apart matched none: correct it, and run anew.",
            trials=ids_of(records),
        )


def find_low_adapter_rates(evidence: Evidence) -> Iterator[Finding]:
    """Low-rank adapters trained at a rate made for all weights."""
    cells: dict[tuple[str, float], list[Record]] = defaultdict(list)
    for record in evidence.done:
        if record.trial.settings.get("rank") is None:
            continue
        # LoRA+ trains the two matrices of an adapter at rates of their own.
        rates = [group.peak_learning_rate for group in record.notes.fit.groups if group.name.startswith("adapter")]
        if 0 < max(rates, default=0.0) < LOWEST_ADAPTER_RATE:
            cells[format_where(record), max(rates)].append(record)
    for (where, rate), records in cells.items():
        yield Finding(
            rule="low adapter rate",
            severity="warning",
            where=where,
            reason=f"a low-rank adapter was trained at {rate:g}, a rate for all weights, in "
            f"{pluralise(len(records), 'trial')}: it is set up to lose",
            remedy="Give adapters about ten times the rate for all weights, 2e-4 to 1e-3, or tune all methods alike.",
            trials=ids_of(records),
        )


def find_unequal_tuning(evidence: Evidence) -> Iterator[Finding]:
    """Methods of one comparison of which some were tuned more than others."""
    for members in group_records(evidence.done).values():
        fitted = [record for record in members if record.notes.fit.losses]
        effort: dict[int, list[Record]] = defaultdict(list)
        for record in fitted:
            tuning = record.notes.tuning
            effort[1 if tuning is None else len(tuning.tried) * tuning.folds].append(record)
        if len(effort) > 1:
            each = "; ".join(
                f"{', '.join(sorted({r.trial.variant for r in records}))}: {pluralise(fits, 'fit')} to choose from"
                for fits, records in sorted(effort.items())
            )
            yield Finding(
                rule="unequal tuning",
                severity="warning",
                where=format_group(members),
                reason=f"methods were tuned with unequal effort ({each})",
                remedy="Tune all with the same number of settings and folds, or none.",
                trials=ids_of(fitted),
            )
