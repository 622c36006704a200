"""Exports of every kind of method, answered in a fresh environment without fewtune, beside the models themselves.

    python -m benchmarks.exports   writes benchmarks/results/exports.json

Each method is fitted on 16 rows of `sentiment` with SmolLM2 135M, or MiniLM L6 where the name says so, one epoch where
it trains, saved, loaded and exported, adapters merged too, and some as an ONNX graph. A virtual environment is made
with torch, transformers, sentence-transformers, peft and onnxruntime alone; there the exports answer 200 rows. The
models' own answers are in float32, by `fewtune.load` and in memory.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.apart import ROOT
from benchmarks.markdown import write_machine, write_markdown
from benchmarks.race.results import describe_machine, describe_moment
from fewtune.exporting.export import ExportOptions, export_model
from fewtune.predictors.model_folder import load_predictor
from fewtune.running.fit_rows import fit_rows
from fewtune.system.processor import usable_cores
from fewtune.tasks import sentiment
from fewtune.tasks.draw import Sampling, make_draw

FILE = ROOT / "benchmarks" / "results" / "exports.json"
MODEL, ENCODER = "smollm2-135m", "minilm-l6"
ROWS = 200
METHODS: dict[str, tuple[str, str | None, dict[str, Any]]] = {
    "tfidf": ("tfidf", None, {}),
    "probe": ("probe", MODEL, {}),
    "zero-shot": ("in_context", MODEL, {"demonstrations": 0, "calibration": "none"}),
    "in_context": ("in_context", MODEL, {"contexts": 1, "demonstrations": 8, "calibration": "contextual"}),
    "vanilla": ("vanilla", MODEL, {"epochs": 1}),
    "pattern": ("pattern", MODEL, {"epochs": 1}),
    "adaptive": ("adaptive", MODEL, {"epochs": 1}),
    "lora": ("lora", MODEL, {"epochs": 1}),
    "lora, head": ("lora", MODEL, {"epochs": 1, "readout": "head"}),
    "lora, DoRA": ("lora", MODEL, {"epochs": 1, "dora": True}),
    "lora, 4-bit base": ("lora", MODEL, {"epochs": 1, "base": "4bit"}),
    "ia3": ("ia3", MODEL, {"epochs": 1}),
    "soft_prompt": ("soft_prompt", MODEL, {"epochs": 1}),
    "soft_prompt, prefix": ("soft_prompt", MODEL, {"epochs": 1, "kind": "prefix"}),
    "embeddings, MiniLM": ("embeddings", ENCODER, {}),
    "contrastive, MiniLM": ("contrastive", ENCODER, {"epochs": 1}),
    "vanilla, MiniLM": ("vanilla", ENCODER, {"epochs": 1}),
    "lora, head, MiniLM": ("lora", ENCODER, {"epochs": 1, "readout": "head"}),
}
GRAPHS = ("probe", "in_context", "pattern", "lora")
"""Methods whose ONNX graph is answered too: each takes a minute to write."""
PACKAGES = ("torch", "transformers", "sentence-transformers", "peft", "onnxruntime", "safetensors")
READER = """
import importlib.util, json, sys
from pathlib import Path
import numpy as np
assert importlib.util.find_spec("fewtune") is None, "fewtune is installed here"
import torch
root = Path(sys.argv[1])
rows = json.loads((root / "rows.json").read_text())

def batches(tokenizer, kind):
    for start in range(0, len(rows), 16):
        texts = [row["text"] for row in rows[start:start + 16]]
        yield tokenizer(texts, padding=True, truncation=True, return_tensors=kind)

for told in sorted(root.glob("*/*.json")):
    content = json.loads(told.read_text())
    place, form = told.with_suffix(""), content["form"]
    if not place.is_dir():
        continue
    if form == "program":
        spec = importlib.util.spec_from_file_location("classify", place / "classify.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        found = np.array(module.Classifier(place).probabilities(rows))
    elif form == "sentence_transformer":
        from sentence_transformers import SentenceTransformer
        logits = SentenceTransformer(str(place), device="cpu").encode([row["text"] for row in rows])
        found = torch.from_numpy(logits).double().softmax(-1).numpy()
    else:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer
        tokenizer = AutoTokenizer.from_pretrained(place)
        if form == "onnx":
            import onnxruntime
            session = onnxruntime.InferenceSession(str(place / "model.onnx"))
            logits = [session.run(["logits"], {n: given[n] for n in ("input_ids", "attention_mask")})[0]
                      for given in batches(tokenizer, "np")]
        else:
            if form == "adapter":
                from peft import PeftModel
                base = AutoModelForSequenceClassification.from_pretrained(
                    content["base"], num_labels=2, pad_token_id=tokenizer.pad_token_id)
                model = PeftModel.from_pretrained(base, place)
            else:
                model = AutoModelForSequenceClassification.from_pretrained(place)
            with torch.no_grad():
                logits = [model.eval()(**given).logits.numpy() for given in batches(tokenizer, "pt")]
        found = torch.from_numpy(np.concatenate(logits)).double().softmax(-1).numpy()
    np.save(place.parent / f"{place.name}.npy", found)
"""


def export_all(root: Path) -> list[dict[str, Any]]:
    """Fit, save, load and export every method; a line for each export, its answers still to come."""
    task = sentiment.load(sentiment.Settings(), None)
    draw = make_draw(task, Sampling(16, in_domain_rows=ROWS), data_seed=0)
    rows = [dict(row.fields) for row in draw.test_sets[0].rows]
    (root / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    texts = [row.fields for row in draw.support]
    labels = [task.labels[row.label] for row in draw.support if row.label is not None]
    found: list[dict[str, Any]] = []
    for number, (name, (method, model, settings)) in enumerate(METHODS.items()):
        began = time.perf_counter()
        folder = root / f"{number:02}"
        predictor = fit_rows(texts, labels, method, model, settings)
        predictor.save(folder / "saved")
        loaded = load_predictor(folder / "saved")
        alike = bool((loaded.predict_probabilities(rows) == predictor.predict_probabilities(rows)).all())
        np.save(
            folder / "expected.npy", load_predictor(folder / "saved", precision="float32").predict_probabilities(rows)
        )
        about = {"method": name, "loaded_alike": alike, "folder": folder.name}
        found.extend({**about, **cell} for cell in _export(folder, name in GRAPHS))
        print(f"{name}: {time.perf_counter() - began:.0f} s", flush=True)
    return found


def _export(folder: Path, graph: bool) -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = []
    bases: dict[str, str] = {}
    for merge in (False, True):
        place = folder / f"export{int(merge)}"
        made = export_model(folder / "saved", place, ExportOptions(merge=merge, onnx=graph and not merge))
        if graph and not merge:
            (place / "onnx").rename(folder / "onnx")
            cells.append({"place": "onnx", "form": "onnx"})
        cells.append({"place": place.name, "form": made.form, "reason": made.reason})
        if made.base is None:
            break
        bases[place.name] = str(made.base.folder)
    for cell in cells:
        told = json.dumps({**cell, "base": bases.get(cell["place"])})
        (folder / f"{cell['place']}.json").write_text(told, encoding="utf-8")
    return cells


def make_environment(root: Path) -> Path:
    """A virtual environment with PACKAGES alone; its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", str(root / "venv")], check=True)
    python = root / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    return python


def measure(root: Path) -> dict[str, Any]:
    """Export everything, answer by the other environment, compare."""
    cells = export_all(root)
    python = make_environment(root)
    subprocess.run([python, "-I", "-c", READER, str(root)], check=True, cwd=root)  # -I: no PYTHONPATH
    for cell in cells:
        folder = root / cell.pop("folder")
        expected, found = np.load(folder / "expected.npy"), np.load(folder / f"{cell.pop('place')}.npy")
        cell["difference"] = float(np.abs(found - expected).max())
        cell["labels_equal"] = float((found.argmax(1) == expected.argmax(1)).mean())
    return {
        "rows": ROWS,
        "models": [MODEL, ENCODER],
        "exports": cells,
        "machine": describe_machine(usable_cores()),
        **describe_moment(),
    }


FORMS = {
    "classifier": "Transformers' classifier",
    "adapter": "PEFT adapter",
    "program": "model and program",
    "sentence_transformer": "Sentence Transformers folder",
    "onnx": "ONNX Runtime",
}


def write_table(results: dict[str, Any]) -> str:
    """The table of docs/models.md."""
    rows = [
        [
            cell["method"],
            FORMS[cell["form"]],
            f"{cell['labels_equal']:.1%}",
            f"{cell['difference']:.1g}",
            "yes" if cell["loaded_alike"] else "no",
        ]
        for cell in results["exports"]
    ]
    head = ["method", "export", "equal labels", "largest difference of a probability", "loaded model equals fitted"]
    return f"{write_markdown(head, rows)}\n\n{write_machine(results['machine'])}."


def main() -> None:
    """Measure, print and write."""
    with tempfile.TemporaryDirectory() as scratch:
        results = measure(Path(scratch))
    print(write_table(results))
    FILE.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
