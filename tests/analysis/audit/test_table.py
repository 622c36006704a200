"""What a table alone can break is told, and nothing else: the published failures, as rows of a CSV file."""

from __future__ import annotations

from pathlib import Path

import pytest

from audited_tables import audit_rows
from fewtune.analysis.audit import table
from fewtune.analysis.audit.table import audit_table
from fewtune.errors import RecordError


def test_a_clean_table_is_silent(tmp_path: Path) -> None:
    rows = [f"{m},16,{s},{0.8 + 0.0123 * s + 0.05 * i:.4f},0.6,T4,12.5" for i, m in enumerate("ab") for s in range(3)]
    assert audit_rows(tmp_path, "method,shots,seed,accuracy,majority,gpu,seconds", *rows) == []


def test_ten_runs_that_are_two_are_told(tmp_path: Path) -> None:
    rows = [f"pbft,16,{seed},{(0.5273, 0.5491)[seed % 2]}" for seed in range(10)]
    [finding] = audit_rows(tmp_path, "method,shots,seed,accuracy", *rows)
    assert (finding.rule, finding.severity, finding.where) == ("identical runs", "error", "16")
    assert "pbft's 10 runs have 2 distinct results" in finding.reason


def test_few_runs_that_agree_by_their_coarse_scores_are_not(tmp_path: Path) -> None:
    assert audit_rows(tmp_path, "method,seed,accuracy", "a,0,0.75", "a,1,0.75", "a,2,0.80") == []
    assert audit_rows(tmp_path, "method,seed,accuracy", "a,0,0.7512", "a,1,0.7512", "a,2,0.8044") == []


def test_a_fault_in_several_cells_is_told_once_with_what_each_has(tmp_path: Path) -> None:
    rows = [f"a,{task},{seed},0.5{len(task)}17" for task in ("cola", "mnli", "qq") for seed in range(4)]
    [finding] = audit_rows(tmp_path, "method,task,seed,accuracy", *rows)
    assert finding.where == "3 cells: cola, mnli, qq"
    assert finding.reason.endswith("a's 4 runs have 1 distinct result"), "one reason for all is told once"


@pytest.mark.parametrize("majority", [0.691, 69.1])
@pytest.mark.parametrize("score", ["0.55", "55.0"])
def test_scores_at_the_majority_are_told_as_shares_and_as_percentages(
    tmp_path: Path, score: str, majority: float
) -> None:
    found = audit_rows(tmp_path, "Method,seed,Accuracy", f"vanilla,0,{score}", f"vanilla,1,{score}1", majority=majority)
    assert [(f.rule, f.severity) for f in found] == [("at the majority", "error")]


@pytest.mark.parametrize(
    "rows",
    [
        ("method,seed,metric,value", "a,0,in_domain_accuracy,0.80", "a,0,out_of_domain_accuracy,0.52"),
        ("method,seed,test_set,accuracy", "a,0,in_domain,0.80", "a,0,hans,0.52"),
        ("method,seed,hans_accuracy,mnli_accuracy", "a,0,0.52,0.80"),
        ("method,seed,balanced_accuracy", "a,0,0.65"),  # a constant answer has .5 of two labels
        ("method,seed,top_5_accuracy", "a,0,0.65"),
        ("method,seed,accuracy,baseline", "a,0,0.80,0.85"),  # another system's
        ("method,seed,epoch,accuracy", "a,0,1,0.50", "a,0,2,0.75"),  # a run that ends above
        ("method,seed,in_domain_accuracy,yelp_accuracy", "a,0,0.80,0.52"),
        ("method,seed,test_set,accuracy", "a,0,in_domain,0.80", "a,0,yelp,0.52"),
        ("method,seed,worst_group_accuracy", "a,0,0.65"),
        ("method,seed,mean_accuracy,std_accuracy", "a,0,0.80,0.02"),
        ("method,seed,accuracy,majority_accuracy", "a,0,0.80,0.69"),
        ("method,seed,metric,value", "a,0,train_accuracy,0.60"),
        ("method,seed,mean_per_class_accuracy", "a,0,0.65"),
        ("method,num_shots,seed,accuracy", "a,2,0,0.72", "a,16,0,0.90"),
        *(
            ("method,seed,accuracy", f"{floor},0,0.60")
            for floor in ("Majority class", "TF-IDF + LR", "random guessing")
        ),
    ],
)
def test_what_the_commonest_label_says_nothing_of_is_not_set_beside_it(tmp_path: Path, rows: tuple[str, ...]) -> None:
    header, *first = rows
    seed = header.split(",").index("seed")
    cells = [line.split(",") for line in first]
    second = [",".join("1" if place == seed else cell for place, cell in enumerate(row)) for row in cells]
    assert "at the majority" not in [f.rule for f in audit_rows(tmp_path, header, *first, *second, majority=0.69)]


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        ("method,seed,train_accuracy,val_accuracy", ("a,0,1.0,0.60", "a,1,1.0,0.61")),
        ("method,seed,hans_accuracy,mnli_accuracy", ("a,0,0.72,0.60", "a,1,0.73,0.61")),
        ("method,num_shots,seed,accuracy", ("a,2,0,0.60", "a,2,1,0.61", "a,16,0,0.90", "a,16,1,0.91")),
        ("method,seed,accuracy", ("random forest,0,0.60", "random forest,1,0.61")),
        ("method,seed,fold,accuracy", ("a,0,0,0.66", "a,0,1,0.71", "a,1,0,0.66", "a,1,1,0.71")),  # folds are no epochs
        ("method,seed,accuracy", ("majority voting,0,0.60", "majority voting,1,0.61")),
        ("method,seed,accuracy", ("ICL (TF-IDF retrieval),0,0.60", "ICL (TF-IDF retrieval),1,0.61")),
        ("method,lr,accuracy", ("a,0.1,0.5273", "a,0.1,0.5274", "a,0.1,0.5275", "a,0.1,0.75")),  # runs at one rate
    ],
)
def test_every_accuracy_in_domain_is_set_beside_the_commonest_label(
    tmp_path: Path, header: str, rows: tuple[str, ...]
) -> None:
    assert "at the majority" in [f.rule for f in audit_rows(tmp_path, header, *rows, majority=0.69)]


@pytest.mark.parametrize("header", ["method,seed,score", "method,seed,exact_match,value"])
def test_percentages_of_any_metric_have_digits(tmp_path: Path, header: str) -> None:
    more = header.count(",") - 2
    rows = [f"a,{seed}{',0.1' * more},71.23" for seed in range(4)]
    assert [f.rule for f in audit_rows(tmp_path, header, *rows)] == ["identical runs"]


def test_epochs_of_a_single_run_are_no_copies_of_one_another(tmp_path: Path) -> None:
    trace = ["0.6123", "0.7123", "0.7123", "0.7123", "0.7123"]
    for header, seed in (("method,seed,epoch,accuracy", "0,"), ("method,epoch,accuracy", "")):
        rows = [f"a,{seed}{epoch},{score}" for epoch, score in enumerate(trace)]
        assert audit_rows(tmp_path, header, *rows) == []


def test_coarse_scores_are_settings_without_effect_on_many_shared_seeds_alone(tmp_path: Path) -> None:
    first, few = ((0, 93.5), (1, 93.2), (2, 93.9), (3, 92.8)), ((0, 93.5), (1, 93.2), (4, 93.1), (5, 93.3))
    for second, told in ((few, []), (first, ["settings without effect"])):
        rows = [f"{name},{seed},{score}" for name, runs in (("a", first), ("b", second)) for seed, score in runs]
        assert [f.rule for f in audit_rows(tmp_path, "method,seed,accuracy", *rows)] == told


def test_percentages_of_one_place_agree_by_chance_but_not_in_many_runs(tmp_path: Path) -> None:
    rows = [f"a,{seed},{score}" for seed, score in enumerate((93.5, 93.5, 93.6, 93.6))]
    assert audit_rows(tmp_path, "method,seed,accuracy", *rows) == []
    [finding] = audit_rows(tmp_path, "method,seed,accuracy", *(f"a,{seed},71.2" for seed in range(10)))
    assert finding.rule == "identical runs"


def test_metrics_of_the_same_answers_are_one_score(tmp_path: Path) -> None:
    """On 100 rows two of ten seeds may well answer so that all three metrics are equal."""
    header = "method,seed,accuracy,macro_f1,mcc"
    rows = [f"a,{seed},0.{60 + seed},0.{60 + seed}1234,0.{20 + seed}4321" for seed in range(9)]
    assert audit_rows(tmp_path, header, *rows, "a,9,0.61,0.611234,0.214321") == []


def test_two_of_five_runs_that_agree_in_three_scores_are_copies(tmp_path: Path) -> None:
    rows = [f"a,{seed},0.7{seed}12,0.5{seed}34,0.6{seed}31" for seed in range(4)]
    [finding] = audit_rows(tmp_path, "method,seed,in_domain,out_of_domain,loss", *rows, "a,4,0.7312,0.5334,0.6331")
    assert finding.rule == "identical runs" and "a's 5 runs have 4 distinct results" in finding.reason
    again = audit_rows(tmp_path, "method,seed,accuracy,eval_loss", *(f"b,{seed},0.75,0.693147" for seed in range(3)))
    assert [f.rule for f in again] == ["identical runs"], "the loss has digits enough"


def test_percentages_of_the_commonest_label_are_set_beside_shares(tmp_path: Path) -> None:
    rows = [f"lora,{seed},{accuracy},69.1" for seed, accuracy in enumerate((0.71, 0.733))]
    assert audit_rows(tmp_path, "method,seed,accuracy,majority", *rows) == []


def test_what_is_no_result_may_repeat_itself_and_be_low(tmp_path: Path) -> None:
    rows = [f"Zero-shot,{seed},0.6001,0.691" for seed in range(4)]
    assert audit_rows(tmp_path, "method,seed,accuracy,majority", *rows) == []


def test_single_seeds_and_unlike_hardware_are_told(tmp_path: Path) -> None:
    header = "peft_type,model,test_accuracy,train_time,GPU"
    found = audit_rows(tmp_path, header, "lora,opt,0.61,70,L4", "full,opt,0.63,200,T4")
    assert [f.rule for f in found] == ["single draw", "unlike machines"]
    assert "2 of 2 methods rest on one seed (lora, full)" in found[0].reason
    assert "train_time stand side by side from GPU L4, T4" in found[1].reason


def test_one_pair_of_runs_that_agrees_may_be_chance(tmp_path: Path) -> None:
    rows = ["lora,0,0.875", "lora,1,0.875", "a,0,0.865", "a,1,0.885", "b,0,0.855", "b,1,0.845"]
    assert audit_rows(tmp_path, "method,seed,accuracy", *rows) == []


def test_rows_of_one_seed_are_one_run_however_many_rates_were_tried(tmp_path: Path) -> None:
    rows = [f"{method},0,{rate},{0.61 + rate}" for method in ("lora", "full") for rate in (0.001, 0.002, 0.003)]
    found = audit_rows(tmp_path, "method,seed,lr,accuracy", *rows)
    assert [f.rule for f in found] == ["single draw"]


def test_identical_percentages_are_told(tmp_path: Path) -> None:
    found = audit_rows(tmp_path, "method,seed,accuracy", *(f"pbft,{seed},69.13" for seed in range(4)))
    assert [f.rule for f in found] == ["identical runs"]


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("method,seed,metric,value", "lora,{seed},mcc,0.4{seed}"),  # a correlation is no share
        ("method,seed,loss", "lora,{seed},0.3{seed}"),  # nor is a loss
        ("method,seed,accuracy", "majority,{seed},0.5012"),  # a floor repeats itself, and is the majority
    ],
)
def test_what_is_no_fault_is_not_told(tmp_path: Path, header: str, row: str) -> None:
    assert audit_rows(tmp_path, header, *(row.format(seed=seed) for seed in range(3)), majority=0.69) == []


def test_epochs_of_one_seed_are_one_run(tmp_path: Path) -> None:
    header, level = "method,seed,epoch,accuracy", [0.5123, 0.6123, 0.7123, 0.7123, 0.7123, 0.7123]
    trace = [(seed, epoch, score) for seed in range(3) for epoch, score in enumerate(level)]
    assert audit_rows(tmp_path, header, *(f"a,{s},{epoch},{score + 0.01 * s}" for s, epoch, score in trace)) == []
    [found] = audit_rows(tmp_path, header, *(f"a,{s},{epoch},{score}" for s, epoch, score in trace))
    assert "a's 3 runs have 1 distinct result" in found.reason


def test_two_seeds_that_agree_in_all_of_several_scores_are_copies(tmp_path: Path) -> None:
    folds = [f"a,{seed},{fold},0.7{fold}31" for seed in (0, 1) for fold in range(5)]
    [found] = audit_rows(tmp_path, "method,seed,fold,accuracy", *folds)
    assert "a's 2 runs have 1 distinct result" in found.reason
    assert audit_rows(tmp_path, "method,seed,accuracy", "a,0,0.7131", "a,1,0.7131") == [], "one score may agree"


def test_a_floor_is_no_fault_however_it_is_spelled(tmp_path: Path) -> None:
    lora = [f"lora,{seed},0.71{seed}3" for seed in range(5)]
    for floor in ("TF-IDF", "zero-shot", "Majority"):
        assert audit_rows(tmp_path, "method,seed,accuracy", *lora, f"{floor},0,0.5127") == []
        assert audit_rows(tmp_path, "method,seed,accuracy", *lora, *(f"{floor},{s},0.5127" for s in range(3))) == []


@pytest.mark.parametrize("majority", [-0.1, 0, 1, 100])
def test_a_majority_that_is_no_share_is_refused(tmp_path: Path, majority: float) -> None:
    with pytest.raises(RecordError, match=f"--majority is {majority:g}; give a share such as 0.691, or a percentage"):
        audit_rows(tmp_path, "method,seed,accuracy", "a,0,0.5", majority=majority)


@pytest.mark.parametrize("cell", ["NaN", "inf", "-inf", "120", "-0.2"])
def test_scores_that_are_no_numbers_are_told_and_left_out(tmp_path: Path, cell: str) -> None:
    rows = [
        *(f"a,{seed},0.7{seed}1" for seed in range(3)),
        *(f"a,{seed},{cell}" for seed in (3, 4)),
        "b,0,0.7",
        "b,1,0.8",
    ]
    [finding] = audit_rows(tmp_path, "method,seed,accuracy", *rows, majority=0.69)
    assert (finding.rule, finding.severity) == ("scores that are no numbers", "error")
    assert f"accuracy of a is {cell.lower()} in 2 rows" in finding.reason


def test_a_table_of_no_numbers_alone_is_told(tmp_path: Path) -> None:
    found = audit_rows(tmp_path, "method,seed,loss", "a,0,nan", "a,1,nan")
    assert [finding.rule for finding in found] == ["scores that are no numbers"]


@pytest.mark.parametrize("header", ["method,seed,mcc", "method,seed,Matthews Correlation"])
def test_correlations_of_nought_are_at_the_majority(tmp_path: Path, header: str) -> None:
    [finding] = audit_rows(tmp_path, header, "a,0,-0.02", "a,1,0.01", "b,0,0.31", "b,1,0.28")
    assert (finding.rule, finding.severity) == ("at the majority", "error")
    assert finding.reason.endswith(f"{header.split(',')[2]} 0: a -0.005")


def test_correlations_by_the_name_of_their_metric_are_at_the_majority_too(tmp_path: Path) -> None:
    rows = ["a,0,MCC,0.00", "a,1,MCC,0.00", "a,0,f1,0.00", "a,1,f1,0.01"]
    found = audit_rows(tmp_path, "method,seed,metric,value", *rows)
    assert [(finding.rule, finding.where) for finding in found] == [("at the majority", "MCC")]


def test_methods_with_equal_scores_on_every_seed_are_settings_without_effect(tmp_path: Path) -> None:
    scores = (0.7123, 0.7301, 0.6912)
    rows = [f"{method},{seed},{score}" for method in ("decayed", "plain") for seed, score in enumerate(scores)]
    rows += [f"lora,{seed},{score + seed / 99:.4f}" for seed, score in enumerate(scores)]
    [finding] = audit_rows(tmp_path, "method,seed,accuracy", *rows)
    assert (finding.rule, finding.severity) == ("settings without effect", "error")
    assert finding.reason.endswith("on every seed that methods share: decayed, plain")


@pytest.mark.parametrize(
    "rows",
    [
        ("a,0,0.71", "a,1,0.73", "b,0,0.71", "b,1,0.73"),  # two digits
        ("a,0,0.7123", "a,1,0.7301", "b,0,0.7123", "b,2,0.7555"),  # one seed
        ("random,0,0.7123", "random,1,0.7301", "chance,0,0.7123", "chance,1,0.7301"),  # no methods
    ],
)
def test_scores_that_may_be_equal_are_no_settings_without_effect(tmp_path: Path, rows: tuple[str, ...]) -> None:
    assert audit_rows(tmp_path, "method,seed,accuracy", *rows) == []


def test_many_methods_with_one_fault_are_one_finding(tmp_path: Path) -> None:
    rows = [f"m{i},{seed},0.5{i:03d}7" for i in range(100) for seed in range(4)]
    found = audit_rows(tmp_path, "method,seed,accuracy", *rows, majority=0.69)
    assert [finding.rule for finding in found] == ["identical runs", "at the majority"]
    assert "m19's 4 runs have 1 distinct result; and 80 more" in found[0].reason


@pytest.mark.parametrize(
    ("header", "majority", "unasked"),
    [
        ("method,seed,gpu,seconds,accuracy", 0.5, {}),
        ("method,seed,gpu,seconds,mcc", None, {}),
        ("method,seed,gpu,seconds,accuracy", None, {"at the majority": "majority (or --majority)"}),
        ("method,seed,gpu,seconds,loss", 0.5, {"at the majority": "accuracy or mcc"}),
        ("method,seed,gpu,seconds,out_of_domain_accuracy", 0.5, {"at the majority": "accuracy or mcc"}),
        ("method,x,gpu,y,mcc", None, {"settings without effect": "seed", "unlike machines": "seconds"}),
        ("method,seed,x,y,mcc", None, {"unlike machines": "gpu and a column seconds"}),
    ],
)
def test_rules_that_could_not_be_asked_are_told_with_what_they_need(
    tmp_path: Path, header: str, majority: float | None, unasked: dict[str, str]
) -> None:
    path = tmp_path / "results.csv"
    path.write_text(f"{header}\na,0,1,2,0.7\n", encoding="utf-8")
    audited = audit_table(path, majority)
    assert (audited.unasked, audited.asked) == (unasked, 6 - len(unasked))


def test_methods_without_effect_are_found_among_thousands(tmp_path: Path) -> None:
    rows = [f"m{i},{seed},0.{i:04}{seed}1" for i in range(3000) for seed in range(2)]
    rows += [f"copy,{seed},0.0007{seed}1" for seed in range(2)]
    compared = 0

    def compare(*given: object) -> bool:
        nonlocal compared
        compared += 1
        return score_alike(*given)  # type: ignore[arg-type]

    score_alike = table._score_alike
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(table, "_score_alike", compare)
        [finding] = audit_rows(tmp_path, "method,seed,accuracy", *rows)
    assert finding.rule == "settings without effect" and finding.reason.endswith("share: m7, copy")
    assert compared < 10_000
