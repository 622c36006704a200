"""Compare methods on your own labelled file from Python, then fit one of them on all rows and keep it.

python examples/own_files.py [MODEL]      a tiny made-up file; MODEL is a catalogue name, folder or hub id
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import fewtune

ROWS = """text,label
the parcel came early and whole,praise
they answered within the hour,praise
a pleasure from first to last,praise
works exactly as promised,praise
the box was crushed and wet,complaint
nobody picks up the phone,complaint
it stopped after one day,complaint
charged me twice for nothing,complaint
"""


def main(model: str) -> None:
    """Run a study, print a line a method, and answer a new row with one that was fitted, saved and loaded."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "feedback.csv"
        data.write_text(ROWS, encoding="utf-8")
        study = {
            "name": "own-files-example",
            "models": [model],
            "tasks": [{"own_files": {"train": data, "test_fraction": 0.5}}],
            "methods": [{"in_context": {"demonstrations": 2}}],
            "shots": [2],
        }
        result = fewtune.run_study(study, Path(folder) / "out")
        for record in result.records:
            score = record.metrics["in_domain"]["accuracy"]
            print(f"{record.trial.variant}: accuracy {score:.2f} of {record.baselines['in_domain']['rows']:.0f} rows")

        lines = [line.rsplit(",", 1) for line in ROWS.splitlines()[1:]]
        texts, labels = [text for text, _ in lines], [label for _, label in lines]
        fewtune.fit(texts, labels, "in_context", model, demonstrations=2).save(Path(folder) / "model")
        predictor = fewtune.load(Path(folder) / "model")
        print(f"late and broken: {predictor.predict(['late and broken'])[0]}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "smollm2-135m")
