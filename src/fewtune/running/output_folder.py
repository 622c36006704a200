"""The output folder of a study: which study it belongs to, its lock, and which trials need not run again.

Owns which folders a study may use, the lock of the command that runs trials there, what kills left half written, and
noticing that a folder went away while its study ran. What the files hold is `records`' business.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fewtune.data.cache_folder import CHECKPOINTS, cache_folder
from fewtune.errors import FewtuneError, RecordError
from fewtune.records import (
    EVENTS,
    LOOKS,
    PACKED_PREDICTIONS,
    PACKED_RECORDS,
    PART,
    Cell,
    PredictionsError,
    Record,
    StudyPredictions,
    is_packed,
    list_written,
    load_events,
    load_looks,
    load_planned,
    load_predictions,
    load_record,
    load_records,
    pack_study,
    record_path,
    unpack,
    write_atomically,
    write_planned,
    write_record,
)
from fewtune.running.precision_choice import recall_precision
from fewtune.study import Study, load_study

LOCK = ".lock"
"""What a command that runs trials holds in its output folder."""

STALE_SECONDS = 3600.0
"""Age at which a half-written file, of a kind that commands may write at any time, is nobody's any more."""

FORGOTTEN_SECONDS = 14 * 86400.0
"""Age at which a fit that a kill cut short will hardly go on."""

_REPORT = "report.html"
"""What `report` writes beside the records."""

_MAY_CHANGE = ("until", "within", "guarantee", "budget", "resources")
"""Keys that decide no trial: how many draws a race may have, what it accepts, how long it may take."""

_AXES = ("models", "tasks", "methods", "shots", "data_seeds", "fit_seeds")


def claim_folder(out: Path, study: Study) -> None:
    """Refuse a folder that holds another study or anything else; one that this study adds to is welcome.

    A folder without a study.yaml is one of ours where trials, the list of them or events lie in it: it goes on. So does
    one in which damage left nothing but files of a study's names.
    """
    if out.exists() and not out.is_dir():
        raise RecordError(f"{out} is a file. Give a folder with --out.")
    if not out.is_dir():
        return
    kept = out / "study.yaml"
    if not _is_ours(out):
        if kept.is_file():
            raise RecordError(
                f"{kept} was not written by fewtune and would be overwritten. Give another folder with --out. Where it "
                "is a study's and damaged, delete that file and run again."
            )
        if not all(_may_be_left(path) for path in out.iterdir()):
            raise RecordError(f"{out} is not empty and holds no study. Give an empty or new folder with --out.")
    if kept.is_file():
        _refuse_another(out, _load_kept(kept), study)


@contextmanager
def open_folder(
    out: Path,
    study: Study,
    planned: Mapping[str, Cell],
    tell: Callable[[str], None],
    others: Mapping[str, Cell] | None = None,
) -> Iterator[dict[str, Record]]:
    """Hold a folder while a study runs there; yields the records of planned trials that need not run again, by id.

    Leftovers of kills are removed, study.yaml and the planned trials written, with those of `others`, the rest of the
    study where a part of it runs, that were planned there before. `tell` gets a line for what is damaged,
    and for what is taken over where no study.yaml said whose it is. Raises RecordError where it cannot be used.
    """
    with _hold_folder(out):
        claim_folder(out, study)  # under the lock: another study may have come and gone since it was asked
        remove_leftovers(out)
        if is_packed(out):
            finished = _find_whole(out, planned)
            if finished is not None:
                kept = out / "study.yaml"
                if not kept.is_file() or _load_kept(kept) != study:  # what decides no trial may be another
                    write_atomically(kept, study.to_yaml().encode())
                yield finished
                return
            unpack(out)
            tell(f"{out}: the packed study is taken apart, so that trials can be added. `fewtune pack` packs it again.")
        known = (out / "study.yaml").is_file()
        # In this order: whatever kills a command here, what it leaves is known to be ours.
        write_planned(out, {**_find_planned(out, others or {}), **planned})
        write_atomically(out / "study.yaml", study.to_yaml().encode())
        found = {trial_id: _find_done(out, trial_id, cell, tell) for trial_id, cell in planned.items()}
        done = {trial_id: record for trial_id, record in found.items() if record is not None}
        lying = [] if known else _list_records(out)
        if lying:
            strange = sum(path.stem not in planned for path in lying)
            rest = f"; {strange} more there belong to no trial of this study and do not count" if strange else ""
            tell(f"{out} has no study.yaml: takes over {len(done)} finished trials that lie there{rest}.")
        yield done


def pack_folder(out: Path) -> int:
    """Pack a finished study's folder while nothing runs there, and return how many trials it has.

    Raises RecordError where there is no study, or an unfinished one.
    """
    if not out.is_dir():
        raise RecordError(f"{out}: no such folder. Give the folder that `fewtune run` wrote (its --out).")
    if not _is_ours(out):
        raise RecordError(f"{out} holds no study. Give the folder that `fewtune run` wrote (its --out).")
    with _hold_folder(out):
        remove_leftovers(out)
        return pack_study(out)


class Presence:
    """A folder as it was found; `check` raises RecordError where it is no longer there, or is another."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._found = self._look()

    def check(self) -> None:
        if self._look() != self._found:
            raise RecordError(
                f"{self._out} was deleted, moved or replaced while its study ran. The run stops, and nothing more is "
                "written there: trials that lay in it are gone with it. Run the study again."
            )

    def _look(self) -> tuple[tuple[int, int] | None, ...]:
        """Device and number of the folder and of its lock, which goes first where a folder is emptied."""
        return tuple(_identify(path) for path in (self._out, self._out / LOCK))


def check_whole(out: Path, trial_ids: Collection[str]) -> None:
    """Raise RecordError where the record of a trial that ran or was reused is gone: deleted while the study ran."""
    gone = set(trial_ids) - list_written(out).keys()
    if gone:
        raise RecordError(
            f"{len(gone)} of {len(trial_ids)} records are gone from {out / 'trials'}: something deleted them while the "
            "study ran. Run the study again: it runs those trials anew."
        )


def remove_leftovers(out: Path) -> None:
    """Remove files that commands were writing when they were killed: in a folder that is held, and in the cache."""
    own = [*(out / "trials").glob(f".*{PART}"), *(out / "predictions").glob(f".*{PART}")]
    for name in ("study.yaml", "planned.json", PACKED_RECORDS, PACKED_PREDICTIONS):
        own += out.glob(f".{name}.*{PART}")
    # Reports need no lock, and the cache is everyone's: what is new there may be in work.
    shared = [path for path in [*out.glob(f".*{PART}"), *cache_folder().rglob(f".*{PART}")] if path not in own]
    oldest = time.time() - STALE_SECONDS
    left = [path for path in shared if _written_at(path) < oldest]
    fits = (cache_folder() / CHECKPOINTS).glob("*.safetensors")
    left += [path for path in fits if _written_at(path) < time.time() - FORGOTTEN_SECONDS]
    for path in own:
        path.unlink(missing_ok=True)
    for path in left:
        with contextlib.suppress(OSError):  # another user's, in a cache that is everyone's
            path.unlink()


def _is_ours(out: Path) -> bool:
    return is_packed(out) or (out / "planned.json").is_file() or bool(_list_records(out)) or bool(load_events(out))


def _list_records(out: Path) -> list[Path]:
    return [path for path in (out / "trials").glob("*.json") if _is_of_a_trial(path)]


def _is_of_a_trial(path: Path) -> bool:
    return re.fullmatch(r"[0-9a-f]{16}", path.stem) is not None


def _may_be_left(path: Path) -> bool:
    """Whether something in a folder without records can be what damage left of a study, and holds nobody's work."""
    if path.is_dir():
        return path.name in ("trials", "predictions") and all(map(_is_of_a_trial_or_part, path.iterdir()))
    if path.name == LOCK or _is_part(path):
        return True
    text = path.read_text(encoding="utf-8", errors="replace") if path.name in (EVENTS, LOOKS, _REPORT) else ""
    if path.name == EVENTS:
        return not any(map(_is_object, text.splitlines()))
    if path.name == LOOKS:
        return not _is_object(text) or _are_looks(path.parent)
    return path.name == _REPORT and (not text or "<title>fewtune report: " in text[:1000])


def _is_of_a_trial_or_part(path: Path) -> bool:
    return _is_part(path) or (path.is_file() and _is_of_a_trial(path))


def _are_looks(out: Path) -> bool:
    try:
        return load_looks(out) is not None
    except RecordError:
        return False


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _is_part(path: Path) -> bool:
    return path.name.startswith(".") and path.name.endswith(PART)


def _load_kept(kept: Path) -> Study:
    try:
        return load_study(kept)
    except FewtuneError as error:
        raise RecordError(
            f"{error}\n{kept} is damaged, or of another fewtune. Delete that file and run again: the study's finished "
            "trials that lie beside it are taken over. Or give another folder with --out."
        ) from error


def list_deciding(study: Study) -> dict[str, Any]:
    """A study's keys without those that say when it ends."""
    return {key: value for key, value in study.model_dump().items() if key not in _MAY_CHANGE}


def _refuse_another(out: Path, kept: Study, study: Study) -> None:
    old, new = (list_deciding(recall_precision(each, out)) for each in (kept, study))
    if old["precision"] == "auto":  # no trial says yet which one that is
        new["precision"] = "auto"
    for method in (*old["methods"], *new["methods"]):
        method.pop("models")  # on which of the models it runs may change: its trials are what they were
    differing = [key for key in new if key not in _AXES and old[key] != new[key]]
    differing += [key for key in _AXES if any(entry not in new[key] for entry in old[key])]
    if differing:
        raise RecordError(
            f"{out} holds another study ({old['name']!r}; it differs in {', '.join(differing)}). A study may only "
            "grow in its own folder: give another with --out, or delete this one."
        )


@contextmanager
def _hold_folder(out: Path) -> Iterator[None]:
    """Keep a folder to this command while it runs trials; the system lets go of it however the command ends."""
    from filelock import FileLock, Timeout

    out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise RecordError(f"another fewtune is running trials in {out}: wait for it, or give another --out.") from error
    try:
        yield
    finally:
        lock.release()


def _find_whole(out: Path, planned: Mapping[str, Cell]) -> dict[str, Record] | None:
    """A packed study's records by trial id, where they are the planned trials', all done and sound; else None."""
    records = {record.trial_id: record for record in load_records(out)}
    whole = records.keys() == planned.keys() and all(
        record.reusable and record.trial.cell == planned[trial_id] for trial_id, record in records.items()
    )
    predictions = StudyPredictions(out)
    try:
        for trial_id in records if whole else ():
            predictions(trial_id)
    except PredictionsError:
        return None
    return records if whole else None


def _find_planned(out: Path, others: Mapping[str, Cell]) -> dict[str, Cell]:
    """Those of some trials that a folder was to have before; none where it says so no more."""
    try:
        before = load_planned(out) or {}
    except RecordError:
        return {}
    return {trial_id: cell for trial_id, cell in others.items() if trial_id in before}


def _find_done(out: Path, trial_id: str, cell: Cell, tell: Callable[[str], None]) -> Record | None:
    """The record of a trial that need not run again, under the names that the study gives it now."""
    if not record_path(out, trial_id).is_file():
        return None
    try:
        record = load_record(record_path(out, trial_id))
        path = record_path(out, trial_id)
        if not record.reusable or load_predictions(out, trial_id).height == 0:
            return None
        if not record.metrics:
            raise RecordError(f"{path}: its trial is done, and no score stands there.")
        if record.trial.cell != cell:
            tell(f"{path}: other names stood there; it is kept under those of this study.")
            record = record.model_copy(update={"trial": record.trial.model_copy(update=cell.model_dump())})
            write_record(out, record)
        return record
    except RecordError as error:
        tell(f"{error} Its trial runs again now.")
        return None


def _identify(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _written_at(path: Path) -> float:
    """When a file was last written, UTC in seconds; in the future where it is gone by now."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")
