"""A shard: one of several equal parts of a study, run separately and merged afterwards.

Owns which trials are in which. Every machine works it out for itself from the study alone; nothing joins them but that.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from fewtune.analysis.looks import plan_looks
from fewtune.errors import Fault, FewtuneError, StudyError
from fewtune.plurals import pluralise
from fewtune.running.job import Job
from fewtune.running.row_choice import leaves_rows_open
from fewtune.study import Study

MOST_SHARDS = 100_000


@dataclass(frozen=True)
class Shard:
    """Part `number`, from 1, of `count`; raises FewtuneError where that is none."""

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count <= MOST_SHARDS:
            raise FewtuneError(
                f"{self} is no part; give which part of how many, such as 2/8: 1/8 is the first, 8/8 the last."
            )

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def pick(self, jobs: Sequence[Job]) -> list[Job]:
        """Those of a study's jobs that are in it: every `count`th of them shuffled, the same way on every machine.

        By their own order a part could be of one method alone; by their ids machines of unlike precision would differ.
        Raises FewtuneError where there are fewer jobs than parts: some would be empty.
        """
        if len(jobs) < self.count:
            there = pluralise(len(jobs), "trial")
            raise FewtuneError(f"the study has {there}: {self.count} parts are too many, {len(jobs)} the most.")
        shuffled = sorted(range(len(jobs)), key=lambda place: hashlib.sha256(str(place).encode()).digest())
        return [jobs[place] for place in sorted(shuffled[self.number - 1 :: self.count])]


def parse_shard(text: str) -> Shard:
    """Read a shard as it is typed, such as 2/8; raises FewtuneError where it is none."""
    found = re.fullmatch(r"\s*(\d{1,9})\s*/\s*(\d{1,9})\s*", text, re.ASCII)
    if found is None:
        raise FewtuneError(
            f"--shard is {text!r:.40}; give which part of how many, such as 2/8: 1/8 is the first, 8/8 the last."
        )
    return Shard(*(int(each) for each in found.groups()))


def check_shardable(study: Study) -> None:
    """Raise StudyError where what one part of a study runs would depend on what the others found."""
    faults = []
    first = str(list(study.data_seeds[: plan_looks(len(study.data_seeds))[0]])).replace(" ", "")
    if study.until is not None:
        faults.append(
            Fault(
                "until: a race looks at all its trials together, and a part of them cannot. Run the parts with "
                f"`--set until=null --set data_seeds={first}`, merge them with `--race DRAWS`, and let the race go "
                "on in the merged folder."
            )
        )
    if leaves_rows_open(study):
        faults.append(
            Fault("evaluation.in_domain_rows: auto: each part would choose rows by its own machine. Give their number.")
        )
    if faults:
        raise StudyError(f"study {study.name!r} cannot run in parts", faults)
