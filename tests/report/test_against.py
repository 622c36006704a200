"""Ours beside published figures: matched by task, model, method, settings and shots, with what sets them apart."""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fewtune import cli
from fewtune.errors import FewtuneError
from fewtune.records import Cost, Notes, Record, TrialAxes, write_record
from fewtune.report.against import compare_with_published, show_against
from fewtune.report.published import load_published
from fewtune.tasks import cola, mnli

PAPER = load_published("paper")
COST = Cost(
    fit_seconds=None,
    predict_seconds=None,
    peak_memory_bytes=None,
    trainable_parameters=None,
    total_parameters=None,
    fit_tokens=None,
    predict_tokens=None,
)
LABELS = {"cola": cola.LABELS, "mnli": mnli.TWO_WAY}


def write(
    out: Path,
    method: str,
    settings: dict[str, Any],
    accuracies: dict[tuple[int, int], tuple[float, float]],
    *,
    task: str = "cola",
    model: str = "opt-125m",
    shots: int = 4,
    variant: str | None = None,
    outside: str = "out_of_domain",
    labels: tuple[str, ...] | None = None,
    label_of_study: str | None = None,
    fit_seconds: float | None = None,
) -> list[Record]:
    """Write one record for each (data seed, fit seed): accuracy in and out of domain; the primary metric is mcc."""
    records = []
    for (data_seed, fit_seed), (inside, out_of) in accuracies.items():
        axes = TrialAxes(
            model=model,
            task=label_of_study or task,
            method=method,
            variant=variant or method,
            shots=shots,
            data_seed=data_seed,
            fit_seed=fit_seed,
            settings=settings,
        )
        record = Record(
            trial_id=f"{abs(hash((axes.model_dump_json(), inside))):016x}"[:16],
            trial=axes,
            status="done",
            labels=list(labels or LABELS[task]),
            primary_metric="mcc",
            metrics={
                "in_domain": {"mcc": 0.0, "accuracy": inside},
                **({outside: {"mcc": 0.0, "accuracy": out_of}} if outside else {}),
            },
            cost=None if fit_seconds is None else COST.model_copy(update={"fit_seconds": fit_seconds}),
            environment={"processor": "Abacus 9", "device": "cpu"},
        )
        write_record(out, record)
        records.append(record)
    return records


def show(out: Path, width: int = 100) -> str:
    stream = StringIO()
    show_against(Console(file=stream, width=width, color_system=None), out, "paper")
    return stream.getvalue()


def test_accuracy_is_averaged_over_fit_seeds_then_draws_and_the_difference_is_in_points(tmp_path: Path) -> None:
    records = write(
        tmp_path,
        "vanilla",
        {"prompted": False},
        {(0, 0): (0.60, 0.50), (0, 1): (0.70, 0.60), (1, 0): (0.75, 0.65)},
    )
    (found,) = compare_with_published(PAPER, records)
    assert found.draws == 2
    assert found.in_domain == pytest.approx(70.0)
    assert found.in_domain_difference == pytest.approx(70.0 - 53.1)
    assert found.out_of_domain == pytest.approx(60.0)
    assert found.out_of_domain_difference == pytest.approx(60.0 - 55.3)


def test_their_pbft_answers_to_prompted_vanilla_and_the_real_one_says_what_it_does_otherwise(tmp_path: Path) -> None:
    cells = {(0, 0): (0.6, 0.5)}
    records = [
        *write(tmp_path, "vanilla", {"prompted": True}, cells, variant="PBFT as released"),
        *write(tmp_path, "pattern", {"loss_over": "label_words"}, cells),
    ]
    alike, real = compare_with_published(PAPER, records)
    assert (alike.published.method, alike.variant) == ("PBFT", "PBFT as released")
    assert real.published == alike.published
    assert set(real.caveats) - set(alike.caveats) == {
        "PBFT against pattern: ours reads label words by the language-model head."
    }


def test_what_nothing_published_answers_to_is_left_out(tmp_path: Path) -> None:
    cells = {(0, 0): (0.6, 0.5)}
    records = [
        *write(tmp_path, "vanilla", {"prompted": False}, cells, shots=16),
        *write(tmp_path, "vanilla", {"prompted": False}, cells, model="smollm2-135m"),
        *write(tmp_path, "in_context", {"demonstrations": 4}, cells),
        *write(tmp_path, "vanilla", {"prompted": False}, cells, task="mnli", labels=mnli.THREE_WAY),
    ]
    assert compare_with_published(PAPER, records) == []
    text = " ".join(show(tmp_path).split())
    assert "No finished trial answers to a published figure" in text
    assert "4, 32, 64, 128, 256 shots in total" in text


def test_regenerated_hans_is_told_from_the_official_rows(tmp_path: Path) -> None:
    cells = {(0, 0): (0.6, 0.5)}
    (made,) = compare_with_published(
        PAPER, write(tmp_path / "a", "vanilla", {"prompted": False}, cells, task="mnli", outside="hans_regenerated")
    )
    (official,) = compare_with_published(
        PAPER, write(tmp_path / "b", "vanilla", {"prompted": False}, cells, task="mnli", outside="hans")
    )
    assert made.out_of_domain == official.out_of_domain == pytest.approx(50.0)
    (added,) = set(made.caveats) - set(official.caveats)
    assert "not the official 30,000 rows" in added


def test_a_full_variant_stands_beside_the_figure_on_all_rows_whatever_its_shots(tmp_path: Path) -> None:
    records = write(
        tmp_path, "context_distillation", {"variant": "full"}, {(0, 0): (0.6, 0.5)}, task="mnli", shots=5000
    )
    (found,) = compare_with_published(PAPER, records)
    assert (found.shots, found.published.epochs, found.published.in_domain) == (5000, 3, 72.1)
    assert any("theirs all 261,802" in caveat for caveat in found.caveats)


@pytest.mark.parametrize("width", [80, 100])
def test_the_table_shows_both_figures_the_difference_and_numbered_caveats(tmp_path: Path, width: int) -> None:
    for shots in (4, 256):
        write(
            tmp_path,
            "lora",
            {"rank": 8, "readout": "head", "targets": "all_linear"},
            {(seed, 0): (0.55, 0.5) for seed in range(10)},
            shots=shots,
        )
    write(tmp_path, "vanilla", {"prompted": False}, {(0, 0): (0.6, 0.5)}, task="mnli", outside="")
    text = show(tmp_path, width)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    assert "cola · opt-125m" in text and "mnli · opt-125m" in text
    row = next(line for line in text.splitlines() if " 41.8" in line)
    assert re.search(r" 4 +41\.8 +55\.0 +\+13\.2 +42\.4 +50\.0 +\+7\.6 +10$", row.rstrip())
    assert re.search(r"256 +49\.1 +55\.0 +\+5\.9", text)
    assert re.search(r"49\.2 +60\.0 +\+10\.8 +50\.0 +– +– +1", text)
    assert "LoRA, r = 8 | ours: lora | notes 1 2 3 4 5 6 7" in text
    words = " ".join(text.split())
    for part in (
        "ten to fifty times too low for it",
        "ours has adapters on every linear layer",
        "at most two distinct ones",
    ):
        assert part in words
    numbers = re.findall(r"^ (\d+)  ", text, re.MULTILINE)
    assert numbers == [str(number) for number in range(1, len(numbers) + 1)]


def test_ours_that_saw_rows_without_labels_is_marked(tmp_path: Path) -> None:
    for record in write(tmp_path, "vanilla", {"prompted": False}, {(0, 0): (0.6, 0.5)}):
        assert "ours: vanilla |" in show(tmp_path)
        write_record(tmp_path, record.model_copy(update={"notes": Notes(unlabelled="pool")}))
    shown = show(tmp_path)
    assert "ours: vanilla* |" in shown and "* learnt from rows without labels too." in shown


def test_a_tasks_own_label_in_the_study_is_seen_through(tmp_path: Path) -> None:
    write(tmp_path, "vanilla", {"prompted": False}, {(0, 0): (0.6, 0.5)}, label_of_study="acceptable")
    assert "No finished trial" in show(tmp_path)
    (tmp_path / "study.yaml").write_text("name: x\ntasks:\n- cola: {as: acceptable, official_rows: true}\n- mnli\n")
    assert "acceptable · opt-125m" in show(tmp_path)


def test_another_published_study_is_refused_before_anything_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(FewtuneError, match=r"unknown published study 'papr'\. Did you mean 'paper'"):
        show_against(Console(file=StringIO()), tmp_path, "papr")
    with pytest.raises(SystemExit) as stopped:
        cli.main(["report", str(tmp_path), "--against", "papr"])
    captured = capsys.readouterr()
    assert stopped.value.code == 2
    assert "Did you mean 'paper'" in captured.err and not captured.out


def test_training_times_stand_side_by_side_where_they_are_told_and_no_ratio_is_made(tmp_path: Path) -> None:
    scores = {(0, 0): (0.6, 0.6), (1, 0): (0.6, 0.6)}
    write(tmp_path, "vanilla", {"prompted": False}, scores, shots=256, fit_seconds=61.0)
    write(tmp_path, "vanilla", {"prompted": False}, scores, shots=4, fit_seconds=9.0)
    settings = {"variant": "full"}
    more = {"task": "mnli", "outside": "hans"}
    write(tmp_path, "context_distillation", settings, scores, shots=9_000, fit_seconds=700.0, **more)
    text = " ".join(show(tmp_path).split())
    assert "Fitting 256 shots: published 199 to 205 s on an NVIDIA T4; ours 61 s on Abacus 9," in text
    assert "Fitting 9,000 shots: published 6,719 s an epoch on an NVIDIA T4; ours 700 s on Abacus 9," in text
    assert text.count("Fitting ") == 2 and "Published times come from different GPUs" in text
