"""Where the seconds of `fewtune serve` go: under load beside one by one, and inside the model's own call.

    python -m benchmarks.serve_profile    SmolLM2 135M fitted by pattern; writes benchmarks/results/serve_profile.json

The requests are those of `benchmarks.serve`. Of each way of asking: the wall clock, the model's call as `/metrics`
counts it, the processor's seconds of the server's threads that answer HTTP and of this process, which asks. Then a row
alone and 64 in one call, without a server, under PyTorch's profiler: seconds by kind of operation, and what the linear
layers' products would take at the most that PyTorch reaches on this machine. Medians of the turns.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.apart import ROOT
from benchmarks.markdown import write_machine, write_markdown
from benchmarks.race.peak import measure_peak
from benchmarks.race.results import describe_machine, describe_moment, write_results
from benchmarks.seconds_by_kind import KINDS, REST, add_up
from benchmarks.serve import AT_ONCE, METHODS, MODEL, ONE_BY_ONE, SIZE, draw_rows, serving, time_requests
from fewtune.api import fit, load
from fewtune.engine.layers import LINEAR
from fewtune.engine.loading import sketch_network
from fewtune.models import find_model, read_config, resolve_precision
from fewtune.models.architectures import architecture_of
from fewtune.predictors.predictor import Predictor

METHOD = "pattern"
FILE = ROOT / "benchmarks" / "results" / "serve_profile.json"
CALLS = {"a row alone": 1, "64 in one call": 64}


def find_server(port: int) -> psutil.Process:
    """The process of this one's that listens there."""
    for child in psutil.Process().children(recursive=True):
        if any(found.laddr.port == port for found in child.net_connections("tcp")):
            return child
    raise SystemExit("the server's process was not found")


def read_clocks(address: tuple[str, int], server: psutil.Process) -> dict[str, float]:
    """Seconds so far: of the model's calls, of the processor for the server's first thread, and for this process."""
    with urllib.request.urlopen(f"http://{address[0]}:{address[1]}/metrics") as answer:
        found = re.search(r"^fewtune_model_seconds_total (\S+)", answer.read().decode(), re.MULTILINE)
    assert found is not None
    [first] = [thread for thread in server.threads() if thread.id == server.pid]  # it runs the event loop
    own = time.process_time()
    return {"model": float(found[1]), "answering": first.user_time + first.system_time, "asking": own}


def measure_load(model: Path, texts: Sequence[str], turns: int) -> list[dict[str, Any]]:
    """Milliseconds a request by turn and way of asking: in all, in the model's call, answering HTTP, asking."""
    measured: list[dict[str, Any]] = []
    with serving(model) as address:
        server = find_server(address[1])
        asyncio.run(time_requests(address, texts[:8], at_once=True))
        for turn in range(turns):
            for way, count in SIZE.items():
                before = read_clocks(address, server)
                seconds, _ = asyncio.run(time_requests(address, texts[:count], way == AT_ONCE))
                after = read_clocks(address, server)
                spent = {"in all": seconds, **{name: after[name] - before[name] for name in before}}
                each = {name: round(1000 * value / count, 3) for name, value in spent.items()}
                print(f"turn {turn + 1} of {turns}, {way}: {each}", flush=True)
                measured.append({"way": way, "turn": turn, "requests": count, "milliseconds": each})
    return measured


def measure_calls(predictor: Predictor, texts: Sequence[str], turns: int) -> dict[str, Any]:
    """Milliseconds a row of calls of one row and of many, without the profiler, and by kind of operation under it."""
    predictor.predict_probabilities(texts[:8])
    found: dict[str, Any] = {}
    for call, rows in CALLS.items():
        asked = [texts[place : place + rows] for place in range(0, max(rows, 16), rows)]
        plain = []
        for _ in range(turns):
            began = time.perf_counter()
            for part in asked:
                predictor.predict_probabilities(part)
            plain.append(1000 * (time.perf_counter() - began) / (rows * len(asked)))
        with profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiler:
            began = time.perf_counter()
            for part in asked:
                predictor.predict_probabilities(part)
            seconds = time.perf_counter() - began
        kinds = add_up(profiler, seconds)["kinds"]
        counted = predictor.count_tokens([{predictor.fields[0]: text} for part in asked for text in part])
        found[call] = {
            "rows": rows * len(asked),
            "tokens_a_row": sum(counted) / (rows * len(asked)),
            "milliseconds": [round(value, 2) for value in plain],
            "profiled": {kind: round(1000 * value / (rows * len(asked)), 3) for kind, value in kinds.items()},
        }
        print(f"{call}: {found[call]['milliseconds']} ms a row", flush=True)
    return found


def count_operations() -> float:
    """GFLOP of the linear layers of the model's blocks for one token."""
    network = sketch_network(read_config(find_model(MODEL).path))
    blocks = architecture_of(network).find_blocks(network)
    return 2e-9 * sum(m.weight.numel() for block in blocks for m in block.modules() if isinstance(m, LINEAR))


def write_table(results: dict[str, Any]) -> str:
    """Milliseconds a request one by one and at once, then a row of one call of one and of many by kind of operation."""
    columns = ("in all", "model", "answering", "asking")
    rows = []
    for way, told in ((ONE_BY_ONE, "one by one"), (AT_ONCE, f"{SIZE[AT_ONCE]} at once")):
        each = [timing["milliseconds"] for timing in results["load"] if timing["way"] == way]
        rows.append([told, *(f"{median(found[column] for found in each):.1f}" for column in columns)])
    head = ("ms a request", "in all", "the model's call", "answering HTTP, processor", "asking, processor")
    calls = results["calls"]
    kinds = [[kind, *(f"{found['profiled'][kind]:.1f}" for found in calls.values())] for kind in (*KINDS, REST)]
    kinds = [row for row in kinds if any(float(value) for value in row[1:])]
    kinds.append(["in all, profiled", *(f"{sum(found['profiled'].values()):.1f}" for found in calls.values())])
    kinds.append(
        ["in all, without the profiler", *(f"{median(found['milliseconds']):.1f}" for found in calls.values())]
    )
    least = [1000 * found["tokens_a_row"] * results["gflop_a_token"] / results["peak"] for found in calls.values()]
    kinds.append(["products of its tokens at the peak", *(f"{value:.1f}" for value in least)])
    kinds.append(["tokens a row", *(f"{found['tokens_a_row']:.1f}" for found in calls.values())])
    machine = f"{write_machine(results['machine'])}; peak {results['peak']:.0f} GFLOP/s in {results['precision']}."
    return f"{write_markdown(head, rows)}\n\n{write_markdown(('ms a row', *calls), kinds)}\n\n{machine}"


def main() -> None:
    """Measure, print and keep what was measured."""
    parser = argparse.ArgumentParser(prog="benchmarks.serve_profile")
    parser.add_argument("--turns", type=int, default=3)
    turns = parser.parse_args().turns
    rows, labels, texts = draw_rows(SIZE[AT_ONCE])
    precision = resolve_precision("auto")
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        fit(rows, labels, METHOD, MODEL, **METHODS[METHOD]).save(model)
        load_timings = measure_load(model, texts, turns)
        calls = measure_calls(load(model), texts, turns)
    results = {
        "machine": describe_machine(torch.get_num_threads()),
        **describe_moment(),
        "precision": precision,
        "peak": measure_peak(find_model(MODEL))[precision]["best"],
        "gflop_a_token": count_operations(),
        "load": load_timings,
        "calls": calls,
    }
    write_results(FILE, results)
    print(write_table(results))


if __name__ == "__main__":
    main()
