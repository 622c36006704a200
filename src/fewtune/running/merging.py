"""Merges the folders of one study that several machines ran in parts.

Owns the check that they are of one study, which record of a trial is kept, where each came from, and which looks the
whole has had. Runs nothing: what is missing is run by `fewtune run` with the merged folder as its output.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import get_type_hints

from fewtune.analysis.looks import plan_looks
from fewtune.analysis.uncounted import find_uncounted
from fewtune.errors import RecordError, list_names
from fewtune.records import (
    LOOKS,
    MOST_SPENT,
    Cell,
    LookHistory,
    Record,
    StudyPredictions,
    append_event,
    fill_atomically,
    find_overspent,
    format_level,
    is_empty,
    list_written,
    load_events,
    load_looks,
    load_planned,
    load_records,
    load_study_entry,
    write_looks,
    write_record,
)
from fewtune.running.look_count import begin_looks, look_at_all, note_look, plan_no_look
from fewtune.running.output_folder import list_deciding, open_folder
from fewtune.study import Study, TaskChoice, load_study
from fewtune.tasks import get_task_module


def merge_folders(parts: Sequence[Path], out: Path, tell: Callable[[str], None], *, race: int | None = None) -> int:
    """Put the trials of several folders of one study into one, and return how many it has.

    Of a trial that lies in several the one that is done is kept, the first of these. `tell` gets a line for what is
    worth knowing: parts that are not there, trials that differ. Looks that were taken in the folders stay taken. The
    whole is looked at once more where none of them was at all of it: with all of the error that looks may spend; with
    `race`, the draws that a race may have, as its look after these, which leaves the others theirs. A new folder is
    there whole or not at all; to one that holds a study its trials are added one by one. Raises RecordError where the
    folders are not of one study, their looks cannot be put together, or `out` is none that they may go into;
    UnwrittenError where it cannot be written.
    """
    if out.exists() and not (out.is_dir() and is_empty(out)):
        return _merge(parts, out, tell, race)
    with fill_atomically(out) as finished:
        return _merge(parts, finished, tell, race)


def _merge(parts: Sequence[Path], out: Path, tell: Callable[[str], None], race: int | None) -> int:
    # What a folder holds of earlier parts stays its study's, and so do the paths that its study names.
    held = [out] if list_written(out) and out not in parts else []
    ours = [out] if (out / "study.yaml").is_file() else []
    study = _read_study([*ours, *(part for part in parts if part not in ours)])
    _check_rows([*held, *parts])
    taken = _gather_looks(dict.fromkeys([*ours, *held, *parts]))
    planned: dict[str, Cell] = {}
    for part in (*held, *parts):
        planned |= load_planned(part) or {record.trial_id: record.trial.cell for record in _load(part)}
    with open_folder(out, study, planned, tell) as done:
        lying = [record for record in _load(out) if record.trial_id in planned]
        kept = {record.trial_id: record for record in lying if record.status != "done"} | done
        damaged = {record.trial_id for record in lying} - kept.keys()
        for part in parts:
            _take_over(part, out, kept, damaged, tell)
        draws, missing = len(study.data_seeds), _list_missing([*held, *parts])
        if len(kept) == len(planned) and not missing:
            plan = [draws] if race is None else plan_looks(max(draws, race))
            history = begin_looks(out, plan, ()) if taken is None else taken
            if race is not None and tuple(plan) != history.plan:
                before = list_names(map(str, history.plan))
                tell(f"{out}: looks were planned there before, after {before} draws, and stay so.")
            write_looks(out, look_at_all(history, [kept[trial_id] for trial_id in planned], study.data_seeds))
        elif taken is not None:
            write_looks(out, taken)
        else:
            plan_no_look(out, [draws])
    ran_in = sorted(
        {str(r.environment["precision"]) for r in kept.values() if r.trial.model and "precision" in r.environment}
    )
    if len(ran_in) > 1:
        tell(
            f"the parts ran in {list_names(ran_in)}: their scores differ by rounding, their seconds and memory by more."
        )
    for line in missing:
        tell(line)
    return len(kept)


def _gather_looks(folders: Iterable[Path]) -> LookHistory | None:
    """The looks that were taken in these folders, each once, whichever tell it; None where none was.

    Raises RecordError where a folder was raced and does not tell its looks, or all of them spent more than there is.
    """
    told: list[tuple[Path, LookHistory]] = []
    for folder in folders:
        looks = load_looks(folder)
        if find_uncounted(_load(folder), looks, load_study_entry(folder, "until") is not None):
            raise RecordError(
                f"{folder / LOOKS}: {'gone' if looks is None else 'it does not tell of trials that were stopped'}, and "
                "the study was raced there: how much of the error its looks spent is not known. Put a copy of the file "
                "back, or run the race again in that folder, and merge then."
            )
        if looks is not None and looks.looks:
            told.append((folder, looks))
    if not told:
        return None
    # The longest history first: where others are beginnings of it, as copies are, the order stays that of its looks.
    told.sort(key=lambda each: len(each[1].looks), reverse=True)
    history = told[0][1].model_copy(update={"plan": max((looks.plan for _, looks in told), key=max)})
    for look in (look for _, looks in told[1:] for look in looks.looks):
        same = history.find(look)
        if same is not None:  # what holds at the lower of two levels holds at the higher
            both = {"level": max(same.level, look.level), "stopped": {**same.stopped, **look.stopped}}
            look = look.model_copy(update=both)
        history = note_look(history, look)
    for (task, shots), spent in find_overspent(history.looks).items():
        raise RecordError(
            f"{list_names(str(folder) for folder, _ in told)} were looked at each for itself: at {task!r:.80}, {shots} "
            f"shots, their looks spent {format_level(spent)} of the error together, and there is "
            f"{format_level(MOST_SPENT)}. Merge one of them only; parts that `fewtune run --shard` ran have had "
            "no look."
        )
    return history


def _read_study(parts: Sequence[Path]) -> Study:
    """The one study that all parts are of."""
    studies: dict[Path, Study] = {}
    for part in parts:
        if not (part / "study.yaml").is_file():
            raise RecordError(f"{part} holds no study. Give folders that `fewtune run --shard` wrote (their --out).")
        studies[part] = load_study(part / "study.yaml")
    first, *others = studies
    for other in others:
        old, new = list_deciding(studies[first]), list_deciding(studies[other])
        # Files may lie elsewhere on another machine: what is in them is compared below.
        old["tasks"], new["tasks"] = (list(map(_leave_paths, studies[part].tasks)) for part in (first, other))
        if "auto" in (old["precision"], new["precision"]):  # which one that is, their trials say
            old["precision"] = new["precision"] = "auto"
        differing = [key for key in old if old[key] != new[key]]
        if differing:
            raise RecordError(
                f"{first} and {other} are not of one study: they differ in {list_names(differing)}. Merge folders that "
                "ran one study.yaml."
            )
    return studies[first]


def _leave_paths(choice: TaskChoice) -> TaskChoice:
    """A task of a study without the settings that say where its files lie."""
    hints = get_type_hints(get_task_module(choice.name).Settings)
    kept = {name: value for name, value in choice.settings.items() if "Path" not in str(hints.get(name))}
    return choice.model_copy(update={"settings": kept})


def _check_rows(parts: Sequence[Path]) -> None:
    """Raise RecordError where two parts read other rows under one task's name, or ran one trial in two ways."""
    seen: dict[str, tuple[str, Path]] = {}
    ran: dict[tuple[object, ...], tuple[str, Path]] = {}
    for part in parts:
        for record in _load(part):
            rows = record.fingerprints.get("data")
            task = record.trial.task
            if rows is not None and seen.setdefault(task, (rows, part))[0] != rows:
                raise RecordError(
                    f"{seen[task][1]} and {part} are not of one study: task {task!r} has other rows in each. Give "
                    "every machine the same files."
                )
            axes = record.trial
            place = (*axes.cell.model_dump().values(), axes.data_seed, axes.fit_seed, axes.pattern)
            known, where = ran.setdefault(place, (record.trial_id, part))
            if known != record.trial_id and where != part:
                raise RecordError(
                    f"{where} and {part} ran one trial in two ways ({known}, {record.trial_id}), as where one "
                    "machine takes bfloat16 and the other float32, or fewtune is another there. Leave one of them "
                    "out, and run its part anew with --set precision= as the others have it."
                )


def _load(part: Path) -> list[Record]:
    """A part's records; none where it has none yet."""
    try:
        return load_records(part)
    except RecordError:
        if list_written(part):
            raise
        return []


def _take_over(
    part: Path, out: Path, kept: dict[str, Record], damaged: Collection[str], tell: Callable[[str], None]
) -> None:
    """Copy what a part has and the whole lacks; what both have must agree.

    What is done there and `damaged` gives way to what is done alone.
    """
    predictions, taken = StudyPredictions(part), 0
    for record in _load(part):
        known = kept.get(record.trial_id)
        if known is not None and known.status == "done":
            if record.status == "done" and record.metrics != known.metrics:
                tell(
                    f"trial {record.trial_id} was scored otherwise in {part} than where it was found first, which is "
                    "kept: machines round differently."
                )
            continue
        if record.status == "done" or (known is None and record.trial_id not in damaged):
            try:
                write_record(out, record, predictions(record.trial_id) if record.status == "done" else None)
            except RecordError as error:
                tell(f"{part}: trial {record.trial_id} is left out: {error}")
                continue
            kept[record.trial_id], taken = record, taken + 1
    append_event(out, "merged", folder=str(part.resolve()), trials=taken, shards=_find_shards(part))


def _list_missing(parts: Sequence[Path]) -> list[str]:
    """Say which parts of a study that was run in parts are not among these."""
    told = [_find_shards(part) for part in parts]
    found = {shard for shards in told if shards is not None for shard in shards}
    counts = sorted({count for _, count in found})
    if not found or None in told:
        return []
    if len(counts) > 1:
        return [f"these are parts of {list_names(map(str, counts))}: trials may be in none of them, or in two."]
    missing = [f"{number}/{counts[0]}" for number in range(1, counts[0] + 1) if (number, counts[0]) not in found]
    if not missing:
        return []
    return [f"missing: {list_names(missing)}. `fewtune run` with the merged folder as --out runs what they would have."]


def _find_shards(part: Path) -> list[tuple[int, int]] | None:
    """Which parts of how many a folder was run as, or merged of; None where it was run whole."""
    found: list[tuple[int, int]] = []
    for event in load_events(part):
        if event["event"] not in ("run", "merged"):
            continue
        shards = event.get("shards")
        if not isinstance(shards, list):
            return None
        found += [(int(number), int(count)) for number, count in shards]
    return found
