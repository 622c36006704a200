"""One side of one work, in a process of its own, so that neither warms the other.

Owns which code a request means. python -m benchmarks.race.side REQUEST OUT, both JSON.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from benchmarks.apart import answer_request
from benchmarks.race.works import MODEL, OURS, WORKS, Size


def run_request(request: dict[str, Any]) -> dict[str, Any]:
    """Time `side` at `work`, of a `size`, with so many `threads`; `precision` is the peer's (fewtune: its `auto`)."""
    import torch

    torch.set_num_threads(request["threads"])
    size = Size(**request["size"])
    if request["work"] == "peak":
        from benchmarks.race.peak import measure_peak
        from fewtune.models import find_model

        return measure_peak(find_model(MODEL))
    timing = run_ours(request["work"], size) if request["side"] == OURS else run_peer(request, size)
    return {"threads": torch.get_num_threads(), **timing}


def run_ours(work: str, size: Size) -> dict[str, Any]:
    """fewtune's timing, in the precision it chooses on this machine."""
    from benchmarks.race import ours, sentences, whole_study
    from benchmarks.race.material import read_material
    from fewtune.models import resolve_precision

    precision = resolve_precision("auto")
    if work == "study":
        timing = whole_study.run_with_fewtune(size)
    elif work == "embed":
        timing = sentences.embed_with_fewtune(read_material(size, WORKS[work].model), precision)
    elif work == "contrastive":
        timing = sentences.fit_with_fewtune(read_material(size, WORKS[work].model), precision)
    else:
        timing = ours.run_work(work, read_material(size, WORKS[work].model), precision)
    return {"precision": precision, **asdict(timing)}


def run_peer(request: dict[str, Any], size: Size) -> dict[str, Any]:
    """A peer's timing."""
    from benchmarks.race import classifier, harness, label_words, sentences, whole_study
    from benchmarks.race.material import read_material

    work, precision = request["work"], request["precision"]
    if work == "study":
        timing = whole_study.run_a_process_a_trial(size, request["threads"])
    elif work == "in-context":
        timing = harness.answer_in_context(read_material(size))
    elif work == "distillation":
        timing = label_words.distil(read_material(size), precision)
    elif work == "embed":
        timing = sentences.embed_with_sentence_transformers(read_material(size, WORKS[work].model))
    elif work == "contrastive":
        timing = sentences.fit_with_setfit(read_material(size, WORKS[work].model))
    else:
        timing = classifier.run_work(work, read_material(size, WORKS[work].model), precision)
    return {"precision": precision, **asdict(timing)}


if __name__ == "__main__":
    answer_request(run_request)
