"""Reads the folder of a running study again and again, each time only what is new.

Owns what is kept between looks: records and predictions are read once, and a group whose records did not change is not
analysed anew. Does not know when a look is due or how it is shown (`report`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fewtune import records as store
from fewtune.analysis.decision import Decision
from fewtune.analysis.leaderboard import GroupKey, find_collapsed, group_records
from fewtune.analysis.looks import keep_looked_at
from fewtune.analysis.predictions import AnswerReader
from fewtune.analysis.reading import read_all
from fewtune.analysis.recommend import DecisionTerms, decide_cell
from fewtune.analysis.study import FolderContents, GroupAnalysis, StudyAnalysis, analyse_group, assemble
from fewtune.analysis.study import read_folder as read_contents
from fewtune.records import Record
from fewtune.system.garbage_collection import collecting_later

_Stamp = tuple[int, int, int]
"""A file's time in nanoseconds, size and number: another one where it was written anew."""


@dataclass(frozen=True)
class _Kept:
    """A group as it was analysed, and what it was made of."""

    made_of: tuple[object, ...]
    analysis: GroupAnalysis


@dataclass(frozen=True)
class _Decided:
    """A decision, and the groups it was made on."""

    groups: tuple[GroupAnalysis, ...]
    terms: DecisionTerms
    decision: Decision


class FollowedFolder:
    """An output folder and what was found in it so far."""

    def __init__(self, out_dir: Path) -> None:
        self._out_dir = out_dir
        self._reader = AnswerReader(store.StudyPredictions(out_dir))
        self._records: dict[str, tuple[_Stamp, Record]] = {}
        self._groups: dict[GroupKey, _Kept] = {}
        self._decisions: dict[tuple[str, int], _Decided] = {}

    @collecting_later()
    def read(self) -> FolderContents:
        """The folder's records and study as they stand; raises RecordError where they cannot be read."""
        contents = read_contents(self._out_dir, self._load)
        if store.is_packed(self._out_dir):  # finished, and read whole
            stamp = _stamp(self._out_dir / store.PACKED_RECORDS)
            self._records = {record.trial_id: (stamp, record) for record in contents.records}
        return contents

    @collecting_later()
    def analyse(self, contents: FolderContents) -> StudyAnalysis:
        """Analyse what was read; what did not change since is as it was."""
        read_all(self._reader, (record for record in contents.records if record.status == "done"))
        contents = replace(contents, records=self._reader.set_aside(contents.records))
        grouped = group_records(contents.records)
        seen = {r.trial_id for r in keep_looked_at(contents.records, contents.looks, contents.seeds)}
        self._groups = {key: self._analyse(key, members, seen) for key, members in grouped.items()}
        groups = [kept.analysis for kept in self._groups.values()]
        return assemble(contents, groups, self._decide(groups, contents.terms), self._reader)

    def _decide(self, groups: Sequence[GroupAnalysis], terms: DecisionTerms) -> list[Decision]:
        cells: dict[tuple[str, int], list[GroupAnalysis]] = {}
        for group in groups:
            cells.setdefault((group.board.task, group.board.shots), []).append(group)
        for place, members in cells.items():
            kept = self._decisions.get(place)
            # A group that did not change is the same object as before.
            same = kept is not None and list(map(id, kept.groups)) == list(map(id, members))
            if not same or kept is None or kept.terms != terms:
                records = {record.trial_id: record for group in members for record in group.members}
                boards = [group.board for group in members]
                decision = decide_cell(boards, records.values(), self._reader, terms)
                self._decisions[place] = _Decided(tuple(members), terms, decision)
        return [self._decisions[place].decision for place in cells]

    def _analyse(self, key: GroupKey, members: list[Record], seen: Collection[str]) -> _Kept:
        """A group by the trials that were looked at, `seen` by their ids; as kept where nothing changed."""
        made_of = tuple(
            (r.trial_id, self._records[r.trial_id][0], r.primary_metric, r.trial_id in seen) for r in members
        )
        kept = self._groups.get(key)
        if kept is not None and kept.made_of == made_of:
            return kept
        collapsed = find_collapsed(members, self._reader)
        return _Kept(made_of, analyse_group(key, members, collapsed, seen, self._reader))

    def _load(self, path: Path) -> Record:
        stamp = _stamp(path)
        kept = self._records.get(path.stem)
        if kept is not None and kept[0] == stamp:
            return kept[1]
        record = store.load_record(path)
        self._reader.forget(record.trial_id)
        self._records[record.trial_id] = (stamp, record)
        return record


def _stamp(path: Path) -> _Stamp:
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino
