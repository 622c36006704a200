"""Compare methods on your own labelled file, from Python: write a study, run it, read the records.

python examples/own_files.py [MODEL]      a tiny made-up file; MODEL is a catalogue name, folder or hub id
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from fewtune.records import load_records, write_record
from fewtune.running.prepare import prepare_jobs
from fewtune.running.trial import Bench, run_trial
from fewtune.study import load_study

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
STUDY = """
name: own-files-example
models: [{model}]
tasks:
  - own_files: {{train: {data}, test_fraction: 0.5}}
methods:
  - in_context: {{demonstrations: 2}}
shots: [2]
"""


def main(model: str) -> None:
    """Run the study in this process and print one line a trial."""
    with tempfile.TemporaryDirectory() as folder:
        data, study, out = (Path(folder) / name for name in ("feedback.csv", "study.yaml", "out"))
        data.write_text(ROWS, encoding="utf-8")
        study.write_text(STUDY.format(model=model, data=data), encoding="utf-8")
        jobs, _ = prepare_jobs(load_study(study), None)
        bench = Bench()
        for job in jobs:
            write_record(out, *run_trial(job, bench))
        for record in load_records(out):
            score = record.metrics["in_domain"]["accuracy"]
            print(f"{record.trial.variant}: accuracy {score:.2f} of {record.baselines['in_domain']['rows']:.0f} rows")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "smollm2-135m")
