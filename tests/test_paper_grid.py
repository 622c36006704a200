"""`fewtune run studies/paper-corrected.yaml` runs its whole grid: tiny random OPT models and made-up rows by `--set`.

What is reduced: models, draws, test rows, pool, epochs. What stays: every method, task, number of shots, both shapes of
OPT, and the command itself. Needs no evaluation data and no network.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import tiny_models
from fewtune import cli
from fewtune.records import Record, load_planned, load_predictions, load_records
from fewtune.running.executors.in_process import InProcess
from fewtune.running.executors.local import LocalProcesses
from fewtune.study import load_study
from fewtune.study.grid import list_trials
from fewtune.tasks import cola, mnli
from no_charts import leave_charts_out

PRESET = Path(__file__).parent.parent / "studies" / "paper-corrected.yaml"

# Named as the real ones, so that `report --against paper` knows which published model each stands for.
SHAPES = {"opt-125m": "opt", "opt-350m": "opt-350m-shaped"}
WITHOUT_MODEL = ("majority", "tfidf")
WITH_MODEL = ("probe", "zero_shot", "in_context", "vanilla", "pattern", "adaptive", "lora", "context_distillation")
SHOTS = (4, 32, 64, 128, 256)
RUN = (4, 256)
"""Those that run: the fewest and the most."""
TRAINED = ("vanilla", "pattern", "adaptive", "lora", "context_distillation")

JOINED = ("and", "but", "while", "though", "yet")
ROWS = 8
REDUCED = (
    f"shots={[shots // 2 for shots in RUN]}",  # a class
    "data_seeds=[0]",
    "pool_rows=4",
    "precision=float32",
    f"evaluation={{in_domain_rows: {ROWS}, out_of_domain_rows: {ROWS}}}",
    "methods.1.vanilla.epochs=1",
    "methods.2.pattern.epochs=1",
    "methods.3.adaptive.epochs=2",
    "methods.3.adaptive.unfreeze_every=1",
    "methods.4.lora.epochs=1",
    "methods.5.context_distillation.epochs=1",
    "methods.5.context_distillation.contexts=2",
    *(f"methods.{place}.{name}.batch_size=64" for place, name in enumerate(TRAINED, start=1)),
)


@dataclass(frozen=True)
class Ran:
    """What the command left: its folder, exit code and output."""

    folder: Path
    code: int
    told: str

    @property
    def records(self) -> list[Record]:
        return load_records(self.folder)


def call(*arguments: str | Path) -> tuple[int, str]:
    """The command line in this process: exit code and output."""
    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told), pytest.raises(SystemExit) as stopped:
        cli.main([str(argument) for argument in arguments])
    return int(stopped.value.code or 0), told.getvalue()


def write_lines(path: Path, rows: Iterable[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows), encoding="utf-8")


def write_data(folder: Path) -> Path:
    """CoLA, MNLI and HANS in the layouts they are published in, their rows made up; no text stands in two sets."""
    claims = list(itertools.product(tiny_models.SUBJECTS, tiny_models.GOOD, tiny_models.BAD, JOINED))
    random.Random(0).shuffle(claims)
    train, dev = claims[:480], claims[480:]

    def sentences(rows: list[tuple[str, ...]], sources: Sequence[str]) -> Iterable[tuple[object, ...]]:
        for number, (subject, good, bad, joined) in enumerate(rows):
            words = f"{subject} {good} {joined} {bad}".split()
            label = number % 2
            text = " ".join(words if label else reversed(words))
            yield sources[number // 2 % len(sources)], label, "" if label else "*", text

    write_lines(folder / "CoLA" / "train.tsv", sentences(train, ["gj04"]))
    write_lines(folder / "CoLA" / "dev.tsv", sentences(dev, ["gj04", "clc95"]))

    def pairs(rows: list[tuple[str, ...]]) -> Iterable[tuple[str, str, str]]:
        for number, (subject, good, bad, joined) in enumerate(rows):
            label = mnli.THREE_WAY[number % 3]
            hypothesis = {"entailment": good, "neutral": f"{joined} not", "contradiction": bad}[label]
            yield f"{subject} {good} {joined} {bad}", f"{subject} {hypothesis}", label

    columns = ("index", "sentence1", "sentence2", "gold_label")
    # A third of the pairs is neutral and left out.
    for name, rows in (("train", train), ("dev_matched", dev)):
        write_lines(folder / "MNLI" / f"{name}.tsv", [columns, *((n, *pair) for n, pair in enumerate(pairs(rows)))])

    def swapped(rows: list[tuple[str, ...]]) -> Iterable[tuple[object, ...]]:
        for number, (subject, good, bad, joined) in enumerate(rows):
            label = ("entailment", "non-entailment")[number % 2]
            yield label, f"{subject} {good} {joined} {bad}", f"{bad} {joined} {subject} {good}", f"ex{number}", "x", "y"

    columns = ("gold_label", "sentence1", "sentence2", "pairID", "heuristic", "subcase")
    write_lines(folder / "hans" / "heuristics_evaluation_set.txt", [columns, *swapped(dev[:60])])
    return folder


@pytest.fixture(scope="module")
def ran(imports_apart: None, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The preset's grid, run once."""
    root = tmp_path_factory.mktemp("paper")
    data = write_data(root / "data")
    # The patterns too: byte by byte, sixteen demonstrations would take most of the time.
    more = [pattern.template for pattern in (cola.PATTERNS[0], mnli.TWO_WAY_PATTERNS[0])]
    folders = [tiny_models.save(shape, root / name, positions=2048, more=more) for name, shape in SHAPES.items()]
    changes = [f"models=[{', '.join(map(str, folders))}]", *REDUCED]
    overrides = [part for change in changes for part in ("--set", change)]
    with pytest.MonkeyPatch.context() as patch:
        # What imports took is not paid again.
        patch.setattr(LocalProcesses, "run", lambda self, jobs: InProcess(self.options).run(jobs))
        leave_charts_out(patch)
        code, told = call("run", PRESET, "--out", root / "out", "--data-dir", data, *overrides)
    return Ran(root / "out", code, told)


def test_the_command_ends_well_and_no_trial_fails_or_is_skipped(ran: Ran) -> None:
    assert (ran.folder / "trials").is_dir(), ran.told
    failures = {record.trial_id: record.failure for record in ran.records if record.status != "done"}
    assert not failures
    assert ran.code == 0, ran.told


def test_every_cell_of_the_grid_has_one_record(ran: Ran) -> None:
    cells = []
    for record in ran.records:
        trial = record.trial
        cells.append((trial.method, trial.task, Path(trial.model).name if trial.model else None, trial.shots))
    tasks = ("cola", "mnli")
    wanted = [
        *itertools.product(WITHOUT_MODEL, tasks, [None], RUN),
        *itertools.product(WITH_MODEL, tasks, SHAPES, RUN),
    ]
    assert len(cells) == len(wanted) == 72
    assert set(cells) == set(wanted)
    assert set(load_planned(ran.folder) or ()) == {record.trial_id for record in ran.records}


def test_the_preset_asks_every_method_with_every_number_of_shots() -> None:
    study = load_study(PRESET)
    listed = {
        (t.method.name, t.task.name, t.model and t.model.name, 2 * t.shots, t.data_seed) for t in list_trials(study)
    }
    without = itertools.product(WITHOUT_MODEL, ("cola", "mnli"), [None], SHOTS, study.data_seeds)
    with_model = itertools.product(WITH_MODEL, ("cola", "mnli"), SHAPES, SHOTS, study.data_seeds)
    assert listed == {*without, *with_model} and len(study.data_seeds) == 10


def test_every_trial_scored_all_its_test_rows_in_and_out_of_domain(ran: Ran) -> None:
    outside = {"cola": "out_of_domain", "mnli": "hans"}
    for record in ran.records:
        counts = load_predictions(ran.folder, record.trial_id).group_by("test_set").len().rows()
        assert dict(counts) == {"in_domain": ROWS, outside[record.trial.task]: ROWS}


def test_every_method_did_what_the_preset_asks_of_it(ran: Ran) -> None:
    for record in ran.records:
        trial, notes = record.trial, record.notes
        assert notes.prompt.cut.rows == 0
        if trial.method == "in_context":
            assert len(notes.demonstrations.rows) == min(trial.settings["demonstrations"], trial.shots)
        if trial.method == "context_distillation":
            assert notes.teacher.rows_labelled == trial.shots
        if trial.method in TRAINED:
            assert notes.fit.losses, trial


@pytest.mark.usefixtures("no_charts")
def test_the_folder_is_reported_beside_the_published_figures(ran: Ran) -> None:
    code, told = call("report", ran.folder, "--against", "paper")
    assert code == 0
    _, heading, beside = told.partition("Against https://arxiv.org/abs/2405.13181")
    assert heading and "Points: ours less published." in beside
    for task, name in itertools.product(("cola", "mnli"), SHAPES):
        assert f"{task} · " in beside and name in beside
    assert (ran.folder / "report.html").is_file()
