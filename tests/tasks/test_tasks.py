"""The contract that every built-in task keeps, over real rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from fewtune.errors import DataError, FewtuneError
from fewtune.metrics.table import METRICS
from fewtune.tasks import TASKS, cola, get_task_module, hans, mnli, qqp, rte
from fewtune.tasks.base import IN_DOMAIN, Task
from fewtune.tasks.patterns import check_pattern, template_fields
from fewtune.tasks.scores import baselines
from fewtune.tasks.texts import text_key

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "sentiment": ("sentiment", {}),
    "questions": ("questions", {}),
    "questions, large topics": ("questions", {"fewest_rows": 50}),
    "cola": ("cola", {}),
    "cola, official rows": ("cola", {"official_rows": True}),
    "mnli": ("mnli", {}),
    "mnli, three-way": ("mnli", {"three_way": True}),
    "rte": ("rte", {}),
    "qqp": ("qqp", {}),
    "own_files": ("own_files", {"train": "rte/train.jsonl", "tests": {"in_domain": "rte/dev.jsonl"}}),
}
_loaded: dict[str, Task] = {}


@pytest.fixture(params=CASES)
def task(request: pytest.FixtureRequest, data_dir: Path) -> Task:
    """Each built-in task, loaded once; packages come through pip."""
    if request.param not in _loaded:
        name, given = CASES[request.param]
        module = get_task_module(name)
        try:
            _loaded[request.param] = module.load(TypeAdapter(module.Settings).validate_python(given), data_dir)
        except DataError as error:
            if "could not be fetched" not in str(error):
                raise
            pytest.skip(str(error))
    return _loaded[request.param]


def test_every_task_of_the_table_is_tested() -> None:
    assert {name for name, _ in CASES.values()} == set(TASKS)


@pytest.mark.parametrize("name", TASKS)
def test_a_module_says_what_it_is_and_describes_every_setting(name: str) -> None:
    module = get_task_module(name)
    assert name == module.NAME
    assert module.SUMMARY and isinstance(module.SOURCE_URL, str)
    assert dataclasses.is_dataclass(module.Settings)
    schema = TypeAdapter(module.Settings).json_schema()
    assert all(field.get("description") for field in schema["properties"].values())


def test_an_unknown_task_is_refused_with_the_nearest() -> None:
    with pytest.raises(FewtuneError, match=r"unknown task 'sentimant'\. Did you mean 'sentiment'"):
        get_task_module("sentimant")


def test_patterns_pass_the_check_and_use_every_field(task: Task) -> None:
    assert task.patterns
    for pattern in task.patterns:
        check_pattern(pattern, task.fields, task.labels)
        assert set(template_fields(pattern.template)) == set(task.fields)


def test_row_ids_are_unique(task: Task) -> None:
    ids = [row.row_id for rows in (task.train, *(s.rows for s in task.test_sets)) for row in rows]
    assert len(ids) == len(set(ids))


def test_no_text_is_shared_between_training_and_test_or_in_and_out_of_domain(task: Task) -> None:
    trained = {text_key(row) for row in task.train}
    assert len(trained) == len(task.train)
    tested = [{text_key(row) for row in test_set.rows} for test_set in task.test_sets]
    for texts in tested:
        assert not trained & texts
    for texts in tested[1:]:
        assert not tested[0] & texts


def test_labels_are_in_range_and_every_label_occurs(task: Task) -> None:
    assert task.test_sets[0].name == IN_DOMAIN
    assert {row.label for row in task.train} == set(range(len(task.labels)))
    for test_set in task.test_sets:
        assert {row.label for row in test_set.rows} == set(range(len(test_set.labels)))
        assert len(test_set.label_of) == len(task.labels)
        assert set(test_set.label_of) <= set(range(len(test_set.labels)))
        assert 0 < baselines(test_set)["majority"] < 1


def test_rows_hold_the_task_fields_and_no_empty_text(task: Task) -> None:
    for rows in (task.train, *(s.rows for s in task.test_sets)):
        for row in rows:
            assert tuple(row.fields) == task.fields
            assert all(text == text.strip() and text for text in row.fields.values())


def test_the_primary_metric_is_in_the_table(task: Task) -> None:
    assert task.primary_metric in METRICS


def test_hans_counts_two_labels_and_keeps_its_facets(data_dir: Path) -> None:
    for three_way, label_of in ((False, (0, 1)), (True, (0, 1, 1))):
        loaded = mnli.load(mnli.Settings(three_way=three_way), data_dir)
        hans = loaded.test_sets[1]
        assert hans.name == "hans_regenerated", "generated pairs must not pass for the official ones"
        assert hans.labels == ("entailment", "non-entailment")
        assert hans.label_of == label_of
        assert {row.facets["heuristic"] for row in hans.rows} == {"lexical_overlap", "subsequence", "constituent"}
        assert any("HANS (regenerated)" in note for note in loaded.notes)


def test_every_inference_task_reads_the_same_hans(data_dir: Path) -> None:
    mnli_hans = mnli.load(mnli.Settings(), data_dir).test_sets[1]
    rte_hans = rte.load(rte.Settings(), data_dir).test_sets[1]
    assert rte_hans == mnli_hans


def test_qqp_says_that_its_in_domain_rows_come_from_train_and_paws_shares_no_text_with_it(data_dir: Path) -> None:
    loaded = qqp.load(qqp.Settings(), data_dir)
    assert [(test_set.name, len(test_set.rows)) for test_set in loaded.test_sets] == [
        ("in_domain", 1000),
        ("paws_qqp", 671),
    ]
    assert baselines(loaded.test_sets[1])["majority"] == pytest.approx(0.717, abs=0.001)
    assert any("come from QQP's training split" in note for note in loaded.notes)


def test_cola_official_rows_are_the_published_ones_less_the_shared_sentence(data_dir: Path) -> None:
    loaded = cola.load(cola.Settings(official_rows=True), data_dir)
    assert [len(test_set.rows) for test_set in loaded.test_sets] == [526, 516]
    for row in (*loaded.train, *loaded.test_sets[0].rows):
        assert row.facets["source"] not in cola.OUT_OF_DOMAIN_SOURCES
    assert {row.facets["source"] for row in loaded.test_sets[1].rows} == cola.OUT_OF_DOMAIN_SOURCES


GLUE_TRAIN = "gj04\t1\t\tFirst made up.\nks08\t0\t*\tSecond up made.\n"


def test_glue_cola_dev_is_split_by_source(tmp_path: Path, write: Callable[..., Path]) -> None:
    write("CoLA/train.tsv", GLUE_TRAIN)
    write("CoLA/dev.tsv", "gj04\t1\t\tThird here.\nclc95\t0\t*\tFourth there.\n")
    loaded = cola.load(cola.Settings(), tmp_path)
    assert [[row.row_id for row in test_set.rows] for test_set in loaded.test_sets] == [["dev/1"], ["dev/2"]]


def test_out_of_domain_rows_never_count_as_in_domain(tmp_path: Path, write: Callable[..., Path]) -> None:
    write("cola/official_tsv/in_domain_train.tsv", GLUE_TRAIN)
    write("cola/official_tsv/in_domain_dev.tsv", "gj04\t1\t\tThird here.\nclc95\t0\t*\tFourth there.\n")
    write("cola/official_tsv/out_of_domain_dev.tsv", "clc95\t1\t\tFifth.\n")
    with pytest.raises(DataError, match=r"1 of the 2 in-domain rows come from out-of-domain sources"):
        cola.load(cola.Settings(), tmp_path)


def test_cola_from_the_hub_is_refused_where_its_rows_are_not_the_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    made_up = [{"idx": index, "sentence": f"Sentence {index}.", "label": 1} for index in range(1043)]
    monkeypatch.setattr(cola, "load_hub_rows", lambda *_: made_up)
    with pytest.raises(DataError, match="in-domain and out-of-domain rows cannot be told apart"):
        cola.load(cola.Settings(), None)


def test_cola_from_the_hub_is_split_where_its_rows_are_the_expected(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = data_dir / "cola" / "official_tsv"
    train, inside, outside = (
        [
            {"sentence": row["sentence"], "label": int(row["label"]), "idx": 0}
            for row in cola.read_tsv(folder / f"{split}.tsv", ("source", "label", "annotation", "sentence"))
        ]
        for split in ("in_domain_train", "in_domain_dev", "out_of_domain_dev")
    )
    hub = {"train": train, "validation": inside + outside}
    monkeypatch.setattr(cola, "load_hub_rows", lambda hub_id, config, split, revision: hub[split])
    loaded = cola.load(cola.Settings(), None)
    assert [len(test_set.rows) for test_set in loaded.test_sets] == [526, 516]


def test_glue_and_official_hans_layouts_are_read(tmp_path: Path, write: Callable[..., Path]) -> None:
    header = "index\tsentence1\tsentence2\tgold_label\n"
    write("MNLI/train.tsv", header + "0\tp a\th a\tentailment\n1\tp b\th b\tneutral\n2\tp c\th c\tcontradiction\n")
    write("MNLI/dev_matched.tsv", header + "0\tp d\th d\tentailment\n1\tp e\th e\t-\n2\tp f\th f\tcontradiction\n")
    loaded = mnli.load(mnli.Settings(), tmp_path)
    assert [row.row_id for row in loaded.train] == ["train/0", "train/2"]
    assert len(loaded.test_sets) == 1
    assert any("nothing is out of domain" in note for note in loaded.notes)
    write(
        "hans/heuristics_evaluation_set.txt",
        "gold_label\tsentence1\tsentence2\tpairID\theuristic\tsubcase\n"
        "non-entailment\tx .\ty .\tex0\tsubsequence\tsn\n",
    )
    hans = mnli.load(mnli.Settings(), tmp_path).test_sets[1]
    assert hans.name == "hans"
    assert hans.rows[0].row_id == "hans/ex0"
    assert hans.rows[0].label == 1


def test_a_folder_without_the_files_names_those_wanted(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--data-dir must hold .*cola/in_domain_train.jsonl.* or CoLA/train.tsv"):
        cola.load(cola.Settings(), tmp_path)


def test_glue_rte_names_its_labels_and_hans_counts_them(tmp_path: Path, write: Callable[..., Path]) -> None:
    header = "index\tsentence1\tsentence2\tlabel\n"
    write("RTE/train.tsv", header + "0\tp a\th a\tentailment\n1\tp b\th b\tnot_entailment\n")
    write("RTE/dev.tsv", header + '0\tp "c\th c\tnot_entailment\n')
    write(
        "heuristics_evaluation_set.txt",
        "gold_label\tsentence1\tsentence2\tpairID\theuristic\tsubcase\nentailment\tx .\ty .\tex0\tconstituent\tce\n",
    )
    loaded = rte.load(rte.Settings(), tmp_path)
    assert [(row.row_id, row.label) for row in loaded.train] == [("train/0", 0), ("train/1", 1)]
    assert loaded.test_sets[0].rows[0].fields == {"premise": 'p "c', "hypothesis": "h c"}
    assert (loaded.test_sets[1].name, loaded.test_sets[1].label_of) == ("hans", (0, 1))


def test_rte_labels_that_are_not_its_own_are_refused(tmp_path: Path, write: Callable[..., Path]) -> None:
    row = '{"sentence1": "a", "sentence2": "b", "label": %s}\n'
    write("rte/dev.jsonl", row % 0)
    write("rte/train.jsonl", row % 0 + row % 2)
    with pytest.raises(DataError, match=r"train.jsonl: row 2 has the label 2. Allowed: 0, 1 or entailment"):
        rte.load(rte.Settings(), tmp_path)


GLUE_QQP = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"


def test_glue_qqp_loses_its_quotes_and_broken_lines_and_keeps_the_rest(
    tmp_path: Path, write: Callable[..., Path]
) -> None:
    write(
        "QQP/train.tsv",
        GLUE_QQP
        + '7\t1\t2\t"What does ""ad hoc"" mean?"\tMeaning of ad hoc?\t1\n'
        + '8\t3\t4\t"Why" or "how"\tWhy?\t0\n'
        + "9\t5\t6\t\tEmpty?\t0\n"
        + "10\t7\t8\tA line\n"
        + "broken here?\tWhy?\t0\n",
    )
    write("QQP/dev.tsv", GLUE_QQP + "1\t1\t2\tWho?\tWhom?\t0\n")
    loaded = qqp.load(qqp.Settings(), tmp_path)
    assert [(row.row_id, row.label, row.fields["question1"]) for row in loaded.train] == [
        ("train/7", 1, 'What does "ad hoc" mean?'),
        ("train/8", 0, '"Why" or "how"'),
    ]
    assert "train.tsv: 2 lines left out that do not hold 6 cells." in loaded.notes
    assert "train: 1 pair left out in which a question is empty." in loaded.notes
    assert any("nothing is out of domain. Put paws_qqp/dev_and_test.jsonl" in note for note in loaded.notes)
    write("QQP/dev.tsv", "1\t1\t2\tWho?\tWhom?\t0\n")
    with pytest.raises(DataError, match=r"dev.tsv: the first line must name the columns id, qid1"):
        qqp.load(qqp.Settings(), tmp_path)


def test_paws_as_published_is_decoded_and_damage_is_refused(tmp_path: Path, write: Callable[..., Path]) -> None:
    pair = '{"question1": "q %s", "question2": "r", "label": 1}\n'
    write("qqp/train.jsonl", pair % 1)
    write("qqp/dev_from_train.jsonl", pair % 2)
    header = "id\tsentence1\tsentence2\tlabel\n"
    write("paws_qqp/dev_and_test.tsv", header + "1\tb'is caf\\xc3\\xa9 it ?'\tb\"it 's ?\"\t1\n")
    paws = qqp.load(qqp.Settings(), tmp_path).test_sets[1]
    assert (paws.name, paws.rows[0].row_id, paws.rows[0].label) == ("paws_qqp", "paws_qqp/1", 1)
    assert paws.rows[0].fields == {"question1": "is caf\u00e9 it ?", "question2": "it 's ?"}
    write("paws_qqp/dev_and_test.tsv", header + "1\tplain\tb'x'\t1\n")
    with pytest.raises(DataError, match=r"row 1 holds 'plain' where b'...' in UTF-8 is due"):
        qqp.load(qqp.Settings(), tmp_path)


def test_rte_and_qqp_from_the_hub_read_its_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    def made_up(hub_id: str, config: str, split: str, revision: str) -> list[dict[str, Any]]:
        if hub_id != "nyu-mll/glue":
            return [{"premise": "x", "hypothesis": "y", "label": 1, "heuristic": "subsequence", "subcase": "sn"}]
        names = ("question1", "question2") if config == "qqp" else ("sentence1", "sentence2")
        return [{names[0]: f"{split} {i}", names[1]: '"a ""b"""', "label": i, "idx": i} for i in (0, 1)]

    monkeypatch.setattr(rte, "load_hub_rows", made_up)
    monkeypatch.setattr(hans, "load_hub_rows", made_up)
    monkeypatch.setattr(qqp, "load_hub_rows", made_up)
    loaded = rte.load(rte.Settings(), None)
    assert [test_set.name for test_set in loaded.test_sets] == ["in_domain", "hans"]
    assert [row.row_id for row in loaded.test_sets[0].rows] == ["dev/0", "dev/1"]
    loaded = qqp.load(qqp.Settings(), None)
    assert loaded.train[0].fields == {"question1": "train 0", "question2": 'a "b"'}
    assert any("No PAWS-QQP rows in the hub" in note for note in loaded.notes)
