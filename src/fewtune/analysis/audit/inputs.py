"""Audit rules for a model's input: test rows that leaked in, and prompts that were cut.

Owns the rules about rows that sets share, rows without labels, label words, and cut inputs. Sources: arXiv
2405.13181's out-of-domain CoLA rows are rows of its in-domain ones; elsewhere label words were given a stray opening
token, or stood with and without their space, and prompts lost their ends.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, combinations

from fewtune.analysis.audit.finding import Evidence, Finding, format_group, format_where, ids_of
from fewtune.analysis.leaderboard import IN_DOMAIN, group_records, name_test_set, saw_unlabelled
from fewtune.plurals import pluralise
from fewtune.records import CutInputs, Record

SHOWN = "demonstrations"
LARGEST_CUT_SHARE = 0.01
"""Cut rows over a trial's test rows from which they are a warning rather than a note; rows fitted on are cut too."""


def report_shared_rows(evidence: Evidence) -> Iterator[Finding]:
    """Rows that stand in two sets: by their ids, and by their texts where the trial compared those."""
    cells: dict[tuple[str, str], list[Record]] = defaultdict(list)
    examples: dict[tuple[str, str], str] = {}
    draws: dict[str, list[Record]] = defaultdict(list)
    for record in evidence.done:
        draws[record.fingerprints.get("draw", record.trial_id)].append(record)
    described: dict[str, list[tuple[str, str]]] = {}
    for members in draws.values():  # the ids of one draw at a time: a large study has millions
        ids = evidence.reader.row_ids(members[0])
        described |= {record.trial_id: list(_describe_shared(record, ids)) for record in members}
    for record in evidence.done:
        for sets, words in described[record.trial_id]:
            key = (f"{record.trial.task} · {pluralise(record.trial.shots, 'shot')}", sets)
            cells[key].append(record)
            examples.setdefault(key, words)
    for (where, sets), records in cells.items():
        yield Finding(
            rule="shared rows",
            severity="error",
            where=where,
            reason=f"{sets} share rows: {examples[where, sets]}, in {pluralise(len(records), 'trial')}",
            remedy="A score on rows that were seen, or that stand in both sets, says nothing of new ones: leave them "
            "out of one set, and run anew.",
            trials=ids_of(records),
        )


def find_bad_label_words(evidence: Evidence) -> Iterator[Finding]:
    """Label words that one another's tokens begin, or that a tokenizer reads otherwise in their place."""
    collide: dict[tuple[str, str], list[Record]] = defaultdict(list)
    split: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in evidence.done:
        prompt = record.notes.prompt
        words = ", ".join(map(repr, prompt.label_words))
        if _collide(prompt.label_word_tokens):
            collide[format_where(record), words].append(record)
        if prompt.splits_cleanly is False:
            split[format_where(record), words].append(record)
    for (where, words), records in collide.items():
        yield Finding(
            rule="label words",
            severity="error",
            where=where,
            reason=f"label words {words} are the same tokens, or one begins another: they cannot be told apart",
            remedy="Choose label words whose tokens differ.",
            trials=ids_of(records),
        )
    for (where, words), records in split.items():
        yield Finding(
            rule="label words",
            severity="warning",
            where=where,
            reason=f"label words {words} are read as other tokens behind their prompt than alone",
            remedy="End the pattern without a space, begin each word with one, and look at the tokens in the records.",
            trials=ids_of(records),
        )


def find_cut_inputs(evidence: Evidence) -> Iterator[Finding]:
    """Trials in which inputs were too long and lost tokens."""
    cells: dict[tuple[str, str], list[tuple[Record, CutInputs]]] = defaultdict(list)
    for record in evidence.done:
        for reader, lost in (("", record.notes.prompt), (" as its teacher read them", record.notes.teacher)):
            if lost is not None and lost.cut.rows:
                cells[format_where(record), reader].append((record, lost.cut))
    for (where, reader), members in cells.items():
        records = [record for record, _ in members]
        cut, tokens = (max(counts) for counts in zip(*((lost.rows, lost.tokens) for _, lost in members), strict=True))
        rows = max(sum(int(floor.get("rows", 0)) for floor in record.baselines.values()) for record in records)
        grave = not rows or cut / rows > LARGEST_CUT_SHARE
        yield Finding(
            rule="cut inputs",
            severity="warning" if grave else "note",
            where=where,
            reason=f"up to {pluralise(cut, 'row')} of a trial{reader} lost {pluralise(tokens, 'token')} of their "
            f"longest text for want of room ({pluralise(rows, 'row')} scored; rows fitted on or shown count too)",
            remedy="Raise max_tokens, or show fewer demonstrations where some are; else say that long texts were cut.",
            trials=ids_of(records),
        )


def find_unlabelled_rows(evidence: Evidence) -> Iterator[Finding]:
    """Methods that learnt from rows without labels, beside others that did not."""
    for members in group_records(evidence.done).values():
        saw = [record for record in members if saw_unlabelled(record)]
        asked = sorted({record.trial.variant for record in saw if record.notes.unlabelled == "scored"})
        learnt = sorted({record.trial.variant for record in saw} - set(asked))
        words = []
        if learnt:
            words.append(f"{', '.join(learnt)} learnt from rows without labels too, which the others did not see")
        if asked:
            words.append(f"{', '.join(asked)} answered the test rows together, and one row alone otherwise")
        if saw and len(saw) < len(members):
            yield Finding(
                rule="unlabelled rows",
                severity="note",
                where=format_group(members),
                reason="; ".join(words),
                remedy="Where such rows cannot be had, compare without them; else compare with another method that "
                "uses them.",
                trials=ids_of(saw),
            )


def _describe_shared(record: Record, test_ids: Mapping[str, set[str]]) -> Iterator[tuple[str, str]]:
    """Pairs of sets that share rows, each with what they share in words."""
    told = record.notes.shared_rows
    for shared in told:
        first, second = shared.sets
        words = (
            f"{pluralise(shared.rows, 'row')} of {name_test_set(second)}, {shared.exact} of them to the "
            f"letter, the others but for case, spacing and punctuation; such as {' and '.join(shared.example)}"
        )
        yield f"{name_test_set(first)} and {name_test_set(second)}", words
    demonstrations, teacher = record.notes.demonstrations, record.notes.teacher
    shown = set()
    for context in [demonstrations, *demonstrations.others] if demonstrations is not None else []:
        shown |= set(context.rows)
    shown |= set(chain(*(teacher.contexts if teacher is not None else ())))
    ids = {**test_ids, SHOWN: shown}
    by_text = {frozenset(shared.sets) for shared in told}
    for first, second in combinations(sorted(ids), 2):
        common = ids[first] & ids[second] if {first, second} & {IN_DOMAIN, SHOWN} else set()
        if common and frozenset((first, second)) not in by_text:
            yield (
                f"{name_test_set(first)} and {name_test_set(second)}",
                f"{len(common)} of {len(ids[first])} and {len(ids[second])} by their ids, such as {min(common)}",
            )


def _collide(tokens: Sequence[Sequence[int]]) -> bool:
    return any(list(first)[: len(second)] == list(second)[: len(first)] for first, second in combinations(tokens, 2))
