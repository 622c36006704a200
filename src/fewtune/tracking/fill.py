"""What a tracker lacks of a study's folder, told to it: after a run without it, or while it was down.

Owns which trials it lacks.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fewtune.records import StudyPredictions, encode_record, load_records
from fewtune.tracking.base import Tracker, fingerprint_files


def fill_tracker(out: Path, tracker: Tracker, goes_on: Callable[[], bool] = lambda: True) -> tuple[int, int]:
    """Tell a tracker every trial of a folder that it was not told as it stands there; how many, and of how many.

    Ends early once `goes_on` says no. Told again, it is told nothing. Raises RecordError where the folder has no
    records, and whatever the tracker raises.
    """
    records, predictions = load_records(out), StudyPredictions(out)
    runs, told = tracker.list_runs(), 0
    for record in records:
        if not goes_on():
            break
        files = encode_record(record, predictions(record.trial_id) if record.status == "done" else None)
        run = runs.get(record.trial_id)
        if run is not None and run.record_sha256 == fingerprint_files(files):
            continue
        run_id = run.run_id if run is not None else tracker.begin(record.trial_id, record.trial)
        tracker.end(run_id, record, files)
        told += 1
    return told, len(records)
