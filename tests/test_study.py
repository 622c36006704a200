"""Claims about study files: what is read, what is refused, in which words and at which line."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from fake_tables import InContextSettings, LoraSettings, install_tables
from fewtune.errors import Fault, StudyError
from fewtune.study import build_settings, load_study
from study_text import GOOD, find_faults, minimal, read


@pytest.fixture(autouse=True)
def _fake_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    install_tables(monkeypatch)


# What is read


def test_every_default_is_resolved(tmp_path: Path) -> None:
    study = read(tmp_path, GOOD)
    assert [model.name for model in study.models] == ["smollm2-135m", "facebook/opt-125m", "./local/folder"]
    assert [model.revision for model in study.models] == [None, "abc", None]
    assert [task.label for task in study.tasks] == ["sentiment", "mnli", "reviews"]
    assert study.tasks[2].settings == {"train": "a.csv", "text": "review", "label_words": {}}
    assert [method.variant for method in study.methods] == ["majority", "in_context", "zero-shot", "lora"]
    assert study.methods[3].settings == {
        "rank": 16,
        "learning_rate": 1e-4,
        "targets": ["all"],
        "readout": "head",
    }
    assert study.data_seeds == (0, 1, 2)
    assert study.fit_seeds == (0,)
    assert (study.evaluation.in_domain_rows, study.evaluation.out_of_domain_rows) == (None, 500)
    assert (study.shots_per, study.sampling, study.precision) == ("total", "balanced", "auto")
    assert (study.pool_rows, study.max_tokens, study.metrics) == (0, None, ())


def test_a_study_is_frozen(tmp_path: Path) -> None:
    study = read(tmp_path, GOOD)
    with pytest.raises(ValidationError):
        study.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    "text", [GOOD, minimal(), minimal(name='"no"'), minimal(name="'1e-4'"), minimal(name=r'"a (b) + c"')]
)
def test_the_resolved_study_reads_back_equal(tmp_path: Path, text: str) -> None:
    study = read(tmp_path, text)
    assert read(tmp_path, study.to_yaml()) == study


def test_resolved_settings_build_the_dataclass(tmp_path: Path) -> None:
    study = read(tmp_path, GOOD)
    assert build_settings(InContextSettings, study.methods[2].settings) == InContextSettings(demonstrations=0)
    assert build_settings(LoraSettings, study.methods[3].settings) == LoraSettings(16, 1e-4)


def test_yaml_is_read_by_the_rules_of_1_2(tmp_path: Path) -> None:
    study = read(tmp_path, minimal(name="no", tasks="[{own_files: {train: a.csv, text: on}}]"))
    assert study.name == "no"
    assert study.tasks[0].settings["text"] == "on"


def test_mapping_keys_are_texts(tmp_path: Path) -> None:
    study = read(
        tmp_path,
        minimal(tasks="[{own_files: {train: a.csv, text: [a, b], label_words: {0: {word: bad}}}}]"),
    )
    assert study.tasks[0].settings["label_words"] == {"0": {"word": "bad"}}
    assert study.tasks[0].settings["text"] == ["a", "b"]


def test_models_are_optional_where_no_method_uses_one(tmp_path: Path) -> None:
    assert read(tmp_path, minimal()).models == ()
    assert read(tmp_path, minimal(models="[]")).models == ()


# Variants


def test_a_method_given_several_times_is_named_by_what_differs(tmp_path: Path) -> None:
    methods = "[lora, lora: {rank: 16}, lora: {rank: 4, readout: label_words}, lora: {rank: 2, as: tiny}]"
    study = read(tmp_path, minimal(methods=methods, models="[m]"))
    variants = [method.variant for method in study.methods]
    assert variants == ["lora", "lora[rank=16]", "lora[rank=4, readout=label_words]", "tiny"]


def test_a_method_given_once_without_a_name_keeps_its_own(tmp_path: Path) -> None:
    study = read(tmp_path, minimal(methods="[lora: {rank: 16}, lora: {as: wide, rank: 64}]", models="[m]"))
    assert [method.variant for method in study.methods] == ["lora", "wide"]


def test_a_name_of_many_settings_is_one_that_its_own_file_can_hold(tmp_path: Path) -> None:
    long = ", ".join(f"lora: {{targets: [{'q_proj' * 40}, {last}]}}" for last in ("v_proj", "up_proj"))
    study = read(tmp_path, minimal(methods=f"[{long}]", models="[m]"))
    names = [method.variant for method in study.methods]
    assert len(set(names)) == 2 and {len(name) for name in names} == {200}
    assert read(tmp_path, study.to_yaml()) == study


# What is refused


@pytest.mark.parametrize(
    ("changes", "line", "message"),
    [
        (
            {"shotz": "[1]"},
            5,
            (
                "unknown key 'shotz'. Did you mean 'shots'? Allowed: baselines, budget, data_seeds, equivalence, "
                "evaluation, fit_seeds, guarantee, max_tokens, methods, metrics, models, name, patterns, pool_rows, "
                "precision, resources, sampling, shots, shots_per, tasks, tuning, until, within."
            ),
        ),
        (
            {"methods": "[majorty]"},
            3,
            "unknown method 'majorty'. Did you mean 'majority'? Allowed: in_context, lora, majority.",
        ),
        (
            {"tasks": "[sentimnet]"},
            2,
            "unknown task 'sentimnet'. Did you mean 'sentiment'? Allowed: mnli, own_files, sentiment.",
        ),
        (
            {"methods": "[lora: {rnak: 2}]", "models": "[m]"},
            3,
            "unknown setting of lora 'rnak'. Did you mean 'rank'? Allowed: learning_rate, rank, readout, targets.",
        ),
        ({"methods": "[majority: {rank: 2}]"}, 3, "setting of majority 'rank': there are no settings."),
        (
            {"methods": "[lora: {rank: 0}]", "models": "[m]"},
            3,
            "`methods.0.lora.rank` is 0: it should be greater than or equal to 1.",
        ),
        (
            {"methods": '[lora: {rank: "4"}]', "models": "[m]"},
            3,
            '`methods.0.lora.rank` is "4": it should be a valid integer.',
        ),
        (
            {"methods": "[lora: {readout: haed}]", "models": "[m]"},
            3,
            "unknown `methods.0.lora.readout` value 'haed'. Did you mean 'head'? Allowed: head, label_words.",
        ),
        (
            {"tasks": "[own_files: {train: a.csv, text: 3}]"},
            2,
            "`tasks.0.own_files.text` is 3: it should be a valid string, or it should be a valid array.",
        ),
        (
            {"tasks": "[own_files: {train: a.csv, text: t, label_words: {a: {word: b, wrod: c}}}]"},
            2,
            "unknown key of `tasks.0.own_files.label_words.a` 'wrod'. Did you mean 'word'? Allowed: word.",
        ),
        ({"tasks": "[own_files: {train: a.csv}]"}, 2, "`tasks.0.own_files.text` is missing."),
        (
            {"tasks": "[own_files: {train: a.txt, text: t}]"},
            2,
            "`tasks.0.own_files`: 'a.txt' is no CSV file.",
        ),
        (
            {"methods": "[lora: 4]", "models": "[m]"},
            3,
            "`methods.0.lora` is 4: settings should be a mapping, {key: value}.",
        ),
        ({"methods": "[3]"}, 3, "`methods.0` is 3: give a method's name, or {name: {settings}}."),
        (
            {"methods": "[{lora: , rank: 4}]"},
            3,
            (
                "`methods.0` has the keys lora, rank: an entry is one method with its settings. "
                "Indent the settings below the method's name, and start every method with `- `."
            ),
        ),
        ({"methods": "[majority: {as: 3}]"}, 3, "`methods.0.majority.as` is 3: it should be a name, in quotes."),
        (
            {"methods": "[lora, lora]", "models": "[m]"},
            3,
            "'lora' has the same settings as 'lora' (first on line 3): keep one.",
        ),
        (
            {"methods": "[lora: {as: a}, lora: {rank: 8}]", "models": "[m]"},
            3,
            "'lora' has the same settings as 'a' (first on line 3): keep one.",
        ),
        (
            {"methods": "[lora: {as: a}, in_context: {as: a}]", "models": "[m]"},
            3,
            "the name 'a' is given twice (first on line 3): name one of them with `as: ...`.",
        ),
        (
            {"tasks": "[mnli, mnli: {three_way: true}]"},
            2,
            "the name 'mnli' is given twice (first on line 2): name one of them with `as: ...`.",
        ),
        (
            {"tasks": "sentiment"},
            2,
            '`tasks` is "sentiment": it should be a list, for example [sentiment].',
        ),
        ({"tasks": "[]"}, 2, "`tasks` is empty: name at least one task."),
        ({"methods": "[]"}, 3, "`methods` is empty: name at least one method."),
        (
            {"methods": "[lora]"},
            None,
            "`models` is missing: lora cannot do without. For example models: [smollm2-135m].",
        ),
        (
            {"methods": "[lora]", "models": "[]"},
            5,
            "`models` is empty: lora cannot do without. For example models: [smollm2-135m].",
        ),
        ({"models": "[a, a]"}, 5, "model 'a' is listed twice (first on line 5): keep one."),
        ({"models": "[{name: a, revision: b}, a]"}, 5, "model 'a' is listed twice (first on line 5): keep one."),
        (
            {"models": "[{name: a, version: b}]"},
            5,
            "unknown key of a model 'version'. Did you mean 'revision'? Allowed: name, revision.",
        ),
        ({"models": "[4]"}, 5, "`models.0` is 4: give a name, or {name: ..., revision: ...}."),
        (
            {"methods": "[in_context: {calibration: batch}]", "models": "[m]"},
            3,
            "in_context needs unlabelled rows here and `pool_rows` is 0: set it, for example pool_rows: 256.",
        ),
        ({"shots": "[0]"}, 4, "`shots.0` is 0: it should be greater than or equal to 1."),
        ({"shots": "16"}, 4, "`shots` is 16: it should be a valid array."),
        ({"patterns": "{sentiment: []}"}, 5, "`patterns.sentiment` is []: it should have at least 1 item."),
        ({"shots": "[16, 16]"}, 4, "16 stands twice in `shots`: keep one."),
        ({"data_seeds": "5"}, 5, "`data_seeds` is 5: give a list of seeds, or {count: 5} for 0 to 4."),
        ({"until": "decide"}, 5, '`until` is "decide": give decided, or {most_draws: 12}.'),
        ({"metrics": "[ece]"}, 5, "results cannot be judged by ece: name one of accuracy, mcc, macro_f1 before it."),
        (
            {"methods": "[lora: {<<: {rank: 4}}]", "models": "[m]"},
            3,
            "merge keys (`<<`) are not read: write the settings out, or name a whole alias.",
        ),
        ({"data_seeds": "[1, 1]"}, 5, "1 stands twice in `data_seeds`: keep one."),
        ({"data_seeds": "[-1]"}, 5, "`data_seeds.0` is -1: it should be greater than or equal to 0."),
        (
            {"fit_seeds": "{count: 0}"},
            5,
            '`fit_seeds` is {"count": 0}: give a list of seeds, or {count: 5} for 0 to 4.',
        ),
        (
            {"sampling": "balancd"},
            5,
            "unknown `sampling` value 'balancd'. Did you mean 'balanced'? Allowed: balanced, natural, stratified.",
        ),
        (
            {"metrics": "[acuracy]"},
            5,
            "unknown `metrics.0` value 'acuracy'. Did you mean 'accuracy'? Allowed: accuracy, ece, macro_f1, mcc.",
        ),
        (
            {"evaluation": "{in_domain_row: 5}"},
            5,
            (
                "unknown key of evaluation 'in_domain_row'. Did you mean 'in_domain_rows'? "
                "Allowed: checkpoint_every, in_domain_rows, out_of_domain_rows."
            ),
        ),
        (
            {"evaluation": "{in_domain_rows: 0}"},
            5,
            "`evaluation.in_domain_rows` is 0: it should be greater than or equal to 1, or it should be 'auto'.",
        ),
        (
            {"shots_per": "class", "sampling": "natural"},
            5,
            (
                "`shots_per: class` asks for equal rows a label and `sampling: natural` does not: "
                "use `shots_per: total` or `sampling: balanced`."
            ),
        ),
        (
            {"shots_per": "class", "sampling": "stratified"},
            5,
            (
                "`shots_per: class` asks for equal rows a label and `sampling: stratified` does not: "
                "use `shots_per: total` or `sampling: balanced`."
            ),
        ),
        ({"max_tokens": "1e999"}, 5, "'1e999' cannot be read as float."),
        ({"max_tokens": "!!binary aaaa"}, 5, "'aaaa' cannot be read as binary."),
    ],
)
def test_a_fault_names_what_is_wrong_and_its_line(
    tmp_path: Path, changes: dict[str, str], line: int | None, message: str
) -> None:
    assert (line, message) in find_faults(tmp_path, minimal(**changes))


def test_an_empty_list_of_shots_or_seeds_is_refused(tmp_path: Path) -> None:
    faults = find_faults(tmp_path, minimal(shots="[]", data_seeds="[]"))
    assert [line for line, _ in faults] == [4, 5]
    assert faults[0][1] == "`shots` is []: it should have at least 1 item."


def test_every_fault_is_told_at_once_in_the_order_of_lines(tmp_path: Path) -> None:
    text = """\
name: demo
model: [m]
tasks:
  - sentimant
methods:
  - lora:
      rank: 0
      learning_rate: fast
  - in_context: {demonstration: 4}
shots: [16, -1]
metrics: [f1]
"""
    faults = find_faults(tmp_path, text)
    assert [line for line, _ in faults] == [2, 4, 7, 8, 9, 10, 11]
    assert "Did you mean 'models'" in faults[0][1]
    assert "Did you mean 'demonstrations'" in faults[4][1]


def test_the_error_counts_and_lists_its_faults(tmp_path: Path) -> None:
    with pytest.raises(StudyError) as caught:
        read(tmp_path, minimal(shots="[0]", pool_rows="-1"))
    assert str(caught.value).splitlines() == [
        f"{tmp_path / 'study.yaml'}: 2 faults",
        "  line 4: `shots.0` is 0: it should be greater than or equal to 1.",
        "  line 5: `pool_rows` is -1: it should be greater than or equal to 0.",
    ]


def test_missing_keys_are_named(tmp_path: Path) -> None:
    faults = find_faults(tmp_path, "name: demo\n")
    assert faults == [(None, f"`{key}` is missing.") for key in ("tasks", "methods", "shots")]


def test_keys_given_twice_are_refused(tmp_path: Path) -> None:
    faults = find_faults(tmp_path, minimal() + "name: other\n")
    assert faults == [(5, "key 'name' is given twice (first on line 1): keep one.")]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("name: [demo\nshots: [16]\n", 2, "not YAML: expected ',' or ']', but got ':'"),
        ("name: demo\n\tshots: [16]\n", 2, "not YAML: found character '\\t'"),
        ("- demo\n", 1, "a study is a mapping of keys (name, tasks, methods, ...), this is a list."),
        ("\njust text\n", 2, 'a study is a mapping of keys (name, tasks, methods, ...), this is "just text".'),
        ("", None, "the file is empty: a study needs name, tasks, methods and shots."),
        ("# only this\n", None, "the file is empty: a study needs name, tasks, methods and shots."),
        ("name: &a [*a]\n", 1, "an alias contains itself: write the value out."),
        ("name: demo\n? [a]\n: b\n", 2, "a key must be a name, this is a list or a mapping."),
        ("name: \x01\n", None, "not YAML: "),
    ],
)
def test_what_is_no_mapping_or_no_yaml_is_refused(tmp_path: Path, text: str, line: int | None, message: str) -> None:
    faults = find_faults(tmp_path, text)
    assert any(where == line and what.startswith(message) for where, what in faults), faults


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError) as caught:
        load_study(tmp_path / "absent.yaml")
    assert caught.value.faults == (Fault("no such file. Give the path of a study's YAML file."),)
    with pytest.raises(StudyError, match="cannot be read"):
        load_study(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9\n")
    with pytest.raises(StudyError, match="not a text file in UTF-8"):
        load_study(tmp_path / "latin.yaml")
