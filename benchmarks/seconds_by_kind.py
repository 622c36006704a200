"""What the seconds of a fit's steps and of scoring go into, by kind of operation.

    python -m benchmarks.seconds_by_kind      prints the table and writes benchmarks/results/seconds_by_kind.json

All weights, LoRA and scoring as the ablation times them, run once more under PyTorch's profiler in one process, set up
as fewtune's workers are; seconds are each operation's own. The profiler takes time and memory with every operation:
many small ones, and those that ask for memory, weigh more here than they do without it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.ablation.works import Size, prepare_scoring, run_fit
from benchmarks.apart import ROOT, start_as_worker
from benchmarks.markdown import write_machine, write_markdown
from benchmarks.race.material import MAX_TOKENS, Material, read_material
from benchmarks.race.results import describe_machine, describe_moment, write_results
from fewtune.engine.language_model import LanguageModel
from fewtune.engine.loading import load_model
from fewtune.models import resolve_precision
from fewtune.system.processor import usable_cores

RESULTS = ROOT / "benchmarks" / "results" / "seconds_by_kind.json"

KINDS: Mapping[str, tuple[str, ...]] = {
    "products of linear layers": ("mm", "addmm", "addmm_", "linear", "mkldnn_linear", "matmul", "LowRank"),
    "attention": ("bmm", "baddbmm", "_softmax", "_softmax_backward_data", "index_select", "index_copy_", "_Move"),
    "AdamW": ("_fused_adamw_",),
    "clipping": ("_foreach_norm", "_foreach_mul_", "linalg_vector_norm", "_foreach_mul"),
    "casts and copies": ("copy_", "_to_copy", "to", "clone", "contiguous", "cat", "fill_", "zero_"),
    "norms, activations, sums": (
        "mul", "mul_", "add", "add_", "silu", "silu_backward", "pow", "mean", "rsqrt", "neg", "sum", "div", "div_",
        "sub", "exp", "sigmoid", "native_layer_norm", "native_layer_norm_backward", "gelu", "relu",
    ),
}  # fmt: skip
"""Operations by kind; what none of them names, and what passes between operations, is the rest."""
REST = "all else, Python between operations included"


def sort_operation(name: str) -> str:
    """An operation's kind."""
    bare = name.removeprefix("aten::")
    found = [kind for kind, names in KINDS.items() if bare in names or bare.removesuffix("Backward0") in names]
    return found[0] if found else REST


def profile_fit(work: str, material: Material, model: LanguageModel, size: Size) -> dict[str, Any]:
    """The timed steps of a fit."""
    profiler = profile(activities=[ProfilerActivity.CPU], acc_events=True)
    clock: list[float] = []

    def watch(step: int, steps: int, loss: float) -> None:
        if step == size.warm_up:
            profiler.start()
            clock.append(time.perf_counter())
        if step == size.warm_up + size.steps:
            clock.append(time.perf_counter())
            profiler.stop()

    run_fit(work, material, model, watch)
    return add_up(profiler, clock[1] - clock[0])


def profile_scoring(material: Material, model: LanguageModel, size: Size) -> dict[str, Any]:
    """The test rows scored."""
    score = prepare_scoring(material, model)
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiler:
        started = time.perf_counter()
        score()
        seconds = time.perf_counter() - started
    return add_up(profiler, seconds)


def add_up(profiler: profile, seconds: float) -> dict[str, Any]:
    """Seconds by kind, what is left of the whole being the rest, and the dearest operations of the rest."""
    kinds = dict.fromkeys((*KINDS, REST), 0.0)
    unsorted: dict[str, float] = {}
    calls = 0
    for event in profiler.key_averages():
        own = event.self_cpu_time_total / 1e6
        kinds[sort_operation(event.key)] += own
        calls += event.count
        if sort_operation(event.key) == REST:
            unsorted[event.key] = round(own, 4)
    kinds[REST] = seconds - sum(value for kind, value in kinds.items() if kind != REST)
    dearest = dict(sorted(unsorted.items(), key=lambda item: -item[1])[:6])
    return {"seconds": seconds, "operations": calls, "kinds": kinds, "dearest_of_the_rest": dearest}


WORKS: Mapping[str, tuple[str, Callable[[Material, LanguageModel, Size], dict[str, Any]]]] = {
    "all-weights": ("all weights, {steps} steps", partial(profile_fit, "all-weights")),
    "lora": ("LoRA, {steps} steps", partial(profile_fit, "lora")),
    "score": ("{test_rows} rows scored", profile_scoring),
}


def write_table(results: dict[str, Any]) -> str:
    """A row a kind, a column a work: seconds and share."""
    found = results["works"]
    head = ("", *(WORKS[work][0].format(**results["size"]) for work in found))
    rows = [
        (kind, *(f"{w['kinds'][kind]:.2f} s ({w['kinds'][kind] / w['seconds']:.0%})" for w in found.values()))
        for kind in (*KINDS, REST)
    ]
    rows.append(("in all", *(f"{w['seconds']:.2f} s" for w in found.values())))
    rows.append(("operations", *(f"{w['operations']:,}" for w in found.values())))
    return f"{write_markdown(head, rows)}\n\n{write_machine(results['machine'])}."


def main() -> None:
    """Profile every work once, in a process that starts as workers do."""
    start_as_worker("benchmarks.seconds_by_kind")
    torch.set_num_threads(usable_cores())
    size = Size()
    material = read_material(size.of_race())
    model = load_model(material.place, resolve_precision("auto"))
    model = replace(model, max_tokens=MAX_TOKENS)
    results = {
        "machine": describe_machine(torch.get_num_threads()),
        "size": asdict(size),
        **describe_moment(),
        "works": {work: run(material, model, size) for work, (_, run) in WORKS.items()},
    }
    write_results(RESULTS, results)
    print(json.dumps({work: found["dearest_of_the_rest"] for work, found in results["works"].items()}, indent=1))
    print(write_table(results))


if __name__ == "__main__":
    main()
