"""Sends a tracker the runs of a study's folder that it lacks.

Owns which trials it lacks.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fewtune.errors import RecordError
from fewtune.records import StudyPredictions, encode_record, load_records
from fewtune.tracking.base import Tracker, fingerprint_files

MOST_MISSES = 3
"""Trials that may not be told before no other is."""


def fill_tracker(out: Path, tracker: Tracker, goes_on: Callable[[], bool] = lambda: True) -> tuple[int, int]:
    """Tell a tracker every trial of a folder that it was not told as it stands there; how many, and of how many.

    Ends early once `goes_on` says no. Told again, it is told nothing. Raises RecordError where the folder has no
    records, or a trial's predictions cannot be read, and whatever the tracker raised of one, when the others were told.
    """
    refused: Exception | None = None
    records, predictions = load_records(out), StudyPredictions(out)
    runs, told, misses = tracker.list_runs(), 0, 0
    for record in records:
        if not goes_on():
            break
        try:
            files = encode_record(record, predictions(record.trial_id) if record.status == "done" else None)
        except RecordError as error:  # its predictions are damaged, as the folder's next run will say
            refused = error
            continue
        run = runs.get(record.trial_id)
        if run is not None and run.record_sha256 == fingerprint_files(files):
            continue
        try:
            run_id = run.run_id if run is not None else tracker.begin(record.trial_id, record.trial)
            tracker.end(run_id, record, files)
            told += 1
        except Exception as error:  # raised below
            refused = error
            misses += 1
            if misses > MOST_MISSES:  # it is the tracker, and not a trial
                break
    if refused is not None:
        raise refused
    return told, len(records)
