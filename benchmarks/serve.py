"""How many requests a second `fewtune serve` answers: 200 at once beside one by one, and whether answers are the same.

python -m benchmarks.serve              SmolLM2 135M, prints and writes benchmarks/results/serve.json
python -m benchmarks.serve --turns 5    more turns

Each model is fitted on sixteen rated film-review snippets and saved, the command serves it in a process of its own as
users start it, and this process asks about one row a request. One by one is one connection that waits for each answer;
at once is a connection a request, all of them open before the clock starts. The two take turns.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from benchmarks.apart import ROOT
from benchmarks.markdown import write_machine, write_markdown
from benchmarks.race.results import describe_machine, describe_moment, write_results
from fewtune.api import fit, load
from fewtune.tasks import get_task_module
from fewtune.tasks.base import IN_DOMAIN
from fewtune.tasks.draw import Sampling, make_draw

MODEL, TASK, SHOTS = "smollm2-135m", "sentiment", 16
METHODS: dict[str, dict[str, Any]] = {
    "pattern": {"epochs": 4},
    "in_context": {"contexts": 1, "demonstrations": 8, "calibration": "contextual"},
    "tfidf": {},
}
"""Those whose models are served, with their settings: a long prompt that rows share, none, and hardly any work."""
SIZE = {"at_once": 200, "one_by_one": 50}
FILE = ROOT / "benchmarks" / "results" / "serve.json"
ONE_BY_ONE, AT_ONCE = "one_by_one", "at_once"

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@contextmanager
def serving(model: Path) -> Iterator[tuple[str, int]]:
    """The command serving a saved model in a process of its own; gives host and port."""
    command = [sys.executable, "-m", "fewtune.cli", "serve", str(model), "--port", "0"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            found = re.search(r"http://[\d.]+:\d+", process.stdout.readline())
            if found is None:
                raise SystemExit("the server did not start")
            address = urlsplit(found.group(0))
            assert address.hostname is not None and address.port is not None
            yield address.hostname, address.port
        finally:
            process.terminate()


async def ask(connection: Connection, text: str) -> list[float]:
    """One row's probabilities, in the model's order of labels."""
    reader, writer = connection
    body = json.dumps({"input": text}).encode()
    head = (
        "POST /classify HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    )
    writer.write("\r\n".join((*head, "", "")).encode() + body)
    told = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = re.search(r"content-length: (\d+)", told)
    assert told.startswith("http/1.1 200 ") and length is not None, told
    content = json.loads(await reader.readexactly(int(length.group(1))))
    probabilities: list[float] = content["data"][0]["probs"]
    return probabilities


async def time_requests(address: tuple[str, int], texts: Sequence[str], at_once: bool) -> tuple[float, np.ndarray]:
    """Seconds that a request for each text takes in all, and the answers (texts, labels)."""
    connections = [await asyncio.open_connection(*address) for _ in (texts if at_once else texts[:1])]
    began = time.perf_counter()
    if at_once:
        answers = await asyncio.gather(*map(ask, connections, texts))
    else:
        answers = [await ask(connections[0], text) for text in texts]
    seconds = time.perf_counter() - began
    for _, writer in connections:
        writer.close()
        await writer.wait_closed()
    return seconds, np.array(answers)


def measure(model: Path, texts: Mapping[str, Sequence[str]], turns: int) -> dict[str, Any]:
    """Serve a saved model and ask for each way's texts, in turn."""
    timings: list[dict[str, Any]] = []
    predictor = load(model)
    answers: dict[str, dict[str, float]] = {}
    with serving(model) as address:
        asyncio.run(time_requests(address, texts[AT_ONCE][:8], at_once=True))
        for turn in range(turns):
            for way, asked in texts.items():
                seconds, found = asyncio.run(time_requests(address, asked, way == AT_ONCE))
                timings.append({"way": way, "turn": turn, "requests": len(asked), "seconds": round(seconds, 3)})
                print(f"turn {turn + 1} of {turns}, {way}: {len(asked) / seconds:.1f} requests a second", flush=True)
                answers[way] = compare(predictor.predict_probabilities(asked), found)
    return {"timings": timings, "answers": answers}


def compare(predicted: np.ndarray, served: np.ndarray) -> dict[str, float]:
    """How many rows get the label that `predict` gives, and how far a probability is from its at most."""
    same = predicted.argmax(axis=1) == served.argmax(axis=1)
    return {
        "rows": len(same),
        "same_labels": int(same.sum()),
        "largest_difference": float(np.abs(predicted - served).max()),
    }


def draw_rows(requests: int) -> tuple[list[dict[str, str]], list[str], list[str]]:
    """Labelled rows, their labels, and the texts to ask about."""
    module = get_task_module(TASK)
    task = module.load(module.Settings(), None)
    draw = make_draw(task, Sampling(SHOTS, in_domain_rows=requests), data_seed=0)
    rows = [dict(row.fields) for row in draw.support]
    labels = [task.labels[row.label or 0] for row in draw.support]
    (tested,) = (found for found in draw.test_sets if found.name == IN_DOMAIN)
    return rows, labels, [" ".join(row.fields.values()) for row in tested.rows]


def write_table(results: dict[str, Any]) -> str:
    """Requests a second, medians with the least and most of the turns, as Markdown."""
    rows = []
    for method, found in results["methods"].items():
        alone, together = (_find_rates(found, way) for way in (ONE_BY_ONE, AT_ONCE))
        ratios = [after / before for before, after in zip(alone, together, strict=True)]
        faster = f"{median(together) / median(alone):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
        answers = found["answers"][AT_ONCE]
        same, most = f"{answers['same_labels']} of {answers['rows']}", f"{answers['largest_difference']:.4f}"
        rows.append([method, _write_range(alone), _write_range(together), faster, same, most])
    head = ("model", "one by one", f"{results['size']['at_once']} at once", "times as many")
    answered = ("labels as `predict`", "largest difference of a probability")
    return f"{write_markdown((*head, *answered), rows)}\n\n{write_machine(results['machine'])}."


def _find_rates(found: dict[str, Any], way: str) -> list[float]:
    return [timing["requests"] / timing["seconds"] for timing in found["timings"] if timing["way"] == way]


def _write_range(figures: Sequence[float]) -> str:
    return f"{median(figures):.1f} ({min(figures):.1f}-{max(figures):.1f})"


def main() -> None:
    """Measure, print and keep what was measured."""
    parser = argparse.ArgumentParser(prog="benchmarks.serve")
    parser.add_argument("--turns", type=int, default=3)
    turns = parser.parse_args().turns
    rows, labels, texts = draw_rows(SIZE[AT_ONCE])
    asked = {ONE_BY_ONE: texts[: SIZE[ONE_BY_ONE]], AT_ONCE: texts}
    methods: dict[str, Any] = {}
    for method, settings in METHODS.items():
        with tempfile.TemporaryDirectory() as folder:
            model = Path(folder) / "model"
            fit(rows, labels, method, MODEL, **settings).save(model)
            methods[method] = {"settings": settings, **measure(model, asked, turns)}
    results = {"machine": describe_machine(os.cpu_count() or 1), **describe_moment(), "size": SIZE, "methods": methods}
    write_results(FILE, results)
    print(write_table(results))


if __name__ == "__main__":
    main()
