"""The report page: whole, self-contained, and safe from what users name."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from browsers import HOSTILE
from fewtune.analysis.study import analyse_folder
from fewtune.errors import RecordError
from fewtune.records import FitNotes, Notes, ParameterGroupNotes, PromptNotes, load_records, write_planned, write_record
from fewtune.report.page import place_findings, render_page, write_report_page
from study_maker import make_study


class Outline(HTMLParser):
    """Collects every tag with its attributes, and all text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def read_page(out: Path) -> Outline:
    outline = Outline()
    outline.feed(write_report_page(analyse_folder(out), out).read_text())
    return outline


@pytest.fixture
def study(tmp_path: Path) -> Path:
    make_study(
        tmp_path,
        {"pattern": [0.84, 0.86, 0.82], "vanilla": [0.6, 0.7, 0.65], "majority": [0.5, 0.5, 0.5]},
        out_of_domain={"yelp": -0.1},
        heuristics=("lexical_overlap", "subsequence"),
        failures={"adaptive": "loss became not a number at step 12"},
        skips={"bitfit": "this model has no biases"},
    )
    return tmp_path


def test_every_section_is_there_and_every_link_has_its_target(study: Path) -> None:
    page = read_page(study)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [attributes["href"] or "" for tag, attributes in page.tags if tag == "a"]
    assert {
        f"#{name}" for name in ("decision", "audit", "verdict", "leaderboard", "methods", "unfinished", "reading")
    } <= set(links)
    assert {link.removeprefix("#") for link in links} <= set(ids)


def test_the_verdict_the_majority_and_the_reasons_are_shown(study: Path) -> None:
    text = read_page(study).text
    assert "pattern leads (0.840 accuracy)" in text
    assert re.search(r"better than vanilla by \d+\.\d points \[", text)
    assert "majority class 0.500" in text and "over majority class" in text
    assert "loss became not a number at step 12" in text
    assert "this model has no biases" in text
    assert "lexical overlap" in text
    assert "learning rate" in text
    assert "made-up" in text


def test_settings_that_differ_between_trials_are_told_with_the_trials(study: Path) -> None:
    for record in load_records(study):
        if record.trial.variant == "pattern":
            rate = 1e-5 if record.trial.data_seed == 1 else 2e-5
            settings = {"batch_size": 16, "learning_rate": rate}
            trial = record.trial.model_copy(update={"settings": settings})
            group = ParameterGroupNotes(name="all weights", tensors=1, parameters=100, peak_learning_rate=rate)
            notes = Notes(fit=FitNotes(groups=[group]))
            write_record(study, record.model_copy(update={"trial": trial, "notes": notes}))
    text = re.sub(r"\s+", " ", read_page(study).text)
    assert "sentiment · tiny-model · 16 shots: draws 0, 2" in text
    assert "sentiment · tiny-model · 16 shots: draw 1" in text
    assert "batch size 16" in re.sub(r"(?<=size)(?=16)", " ", text)


@pytest.mark.parametrize(
    ("tokens", "told"), [([[7, 8], [9]], "' not bad', ' bad' (constrained)"), ([[7], [9]], "' bad'")]
)
def test_label_words_are_told_to_be_constrained_where_they_have_several_tokens(
    tokens: list[list[int]], told: str, study: Path
) -> None:
    words = [" not bad", " bad"] if len(tokens[0]) > 1 else [" good", " bad"]
    for record in load_records(study):
        if record.trial.variant == "pattern":
            prompt = PromptNotes(label_words=words, label_word_tokens=tokens, constrained=True)
            write_record(study, record.model_copy(update={"notes": Notes(prompt=prompt)}))
    text = read_page(study).text
    assert told in text and ("(constrained)" in text) == ("(constrained)" in told)


def test_the_audits_outcome_stands_before_the_verdict_and_leads_to_it(study: Path) -> None:
    source = (write_report_page(analyse_folder(study), study)).read_text()
    assert 0 < source.index('Audit: <a href="#audit">1 warning.</a>') < source.index('<section id="verdict">')


def test_a_finding_names_the_groups_of_its_trials(tmp_path: Path) -> None:
    for model in ("small", "large"):
        for shots in (16, 32):
            answers = {"lora": [0.5, 0.5], "tfidf": [0.5, 0.5]}
            make_study(tmp_path, answers, model=model, shots=shots)
    study = analyse_folder(tmp_path)
    placed = place_findings(study)
    assert placed
    for finding, about in placed:
        boards = [study.groups[number - 1].board for number in about]
        assert boards
        for board in boards:
            assert board.task in finding.where
            assert f"{board.shots} shots" in finding.where
            assert board.model is not None and board.model in finding.where


def test_charts_are_described_and_have_a_table_beside_them(study: Path) -> None:
    page = read_page(study)
    pictures = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len(pictures) == 2 * (1 + 5), "each for a wide screen and for a narrow one"
    ids = {attributes.get("id") for _, attributes in page.tags}
    for picture in pictures:
        assert picture["role"] == "img"
        assert set((picture["aria-labelledby"] or "").split()) <= ids
    assert "Every draw as a table" in page.text


def test_nothing_is_fetched_and_one_script_of_ours_runs(study: Path) -> None:
    page = read_page(study)
    for tag, attributes in page.tags:
        assert tag not in {"link", "iframe", "img", "object"}
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith("#")
    assert [attributes for tag, attributes in page.tags if tag == "script"] == [{}]
    source = (study / "report.html").read_text()
    assert "@import" not in source
    assert not re.search(r"url\((?!\"?'?#)", source)


def test_what_users_name_is_shown_as_text(tmp_path: Path) -> None:
    make_study(
        tmp_path,
        {"pattern": [0.8, 0.8], f"pattern-{HOSTILE}": [0.7, 0.7]},
        labels=(HOSTILE, "b"),
        task=f"task {HOSTILE}",
        model=f"model {HOSTILE}",
        out_of_domain={f"set {HOSTILE}": -0.1},
        heuristics=("x",),
        failures={"lora": f"broke on {HOSTILE}"},
    )
    page = read_page(tmp_path)
    assert [tag for tag, _ in page.tags].count("script") == 1
    for shown in (f"gold: {HOSTILE}", f"pattern-{HOSTILE}", f"model {HOSTILE}", f"broke on {HOSTILE}"):
        assert shown in page.text


def test_a_study_of_failures_still_has_a_page(tmp_path: Path) -> None:
    make_study(tmp_path, {}, failures={"lora": "no memory"})
    text = read_page(tmp_path).text
    assert "No trial was scored" in text
    assert "no memory" in text


def test_a_reason_that_many_trials_have_is_told_once_and_in_whole_lines(tmp_path: Path) -> None:
    """In no table: on a phone its reasons were scrolled out of sight."""
    told = "the model says no words"
    make_study(tmp_path, {"probe": [0.8]}, skips={"lora": told, "pattern": told}, failures={"ia3": "no memory"})
    source = write_report_page(analyse_folder(tmp_path), tmp_path).read_text()
    section = source[source.index('<section id="unfinished">') :].partition("</section>")[0]
    assert "<table" not in section and section.count(told) == section.count("no memory") == 1
    assert "<strong>lora · sentiment · tiny-model; pattern · sentiment · tiny-model</strong>" in section
    assert f"skipped (2 trials): {told}" in section and "error: no memory" in section


def test_an_unfinished_study_is_not_said_to_be_done(tmp_path: Path) -> None:
    records = make_study(tmp_path, {"lora": [0.8, 0.9]})
    assert "None: every trial was done." in read_page(tmp_path).text
    cells = {record.trial_id: record.trial.cell for record in records}
    write_planned(tmp_path, {**cells, "waits": records[0].trial.cell})
    text = read_page(tmp_path).text
    assert "None of those that ran. Unfinished: 1 trial has not run yet: lora (1)." in text


def test_what_stands_between_backticks_is_code(tmp_path: Path) -> None:
    records = make_study(tmp_path, {"lora": [0.8, 0.9]}, failures={"ia3": "give `batch_size: 2` or a `<b>"})
    write_planned(tmp_path, {**{r.trial_id: r.trial.cell for r in records}, "waits": records[0].trial.cell})
    source = write_report_page(analyse_folder(tmp_path), tmp_path).read_text()
    assert "1 trial has not run yet: lora (1). <code>fewtune run</code> goes on." in source
    assert "give <code>batch_size: 2</code> or a `&lt;b&gt;" in source
    shown = re.sub(r"<(script|style)\b.*?</\1>", "", source, flags=re.DOTALL)
    assert shown.count("`") == shown.count("or a `&lt;b&gt;")


def test_every_metric_stands_under_its_own_name(tmp_path: Path) -> None:
    make_study(tmp_path, {"lora": [0.8], "pattern": [0.7]})
    for record in load_records(tmp_path):
        more = {"mcc": 0.123} if record.trial.variant == "lora" else {"auroc": 0.456, "mcc": 0.789}
        write_record(tmp_path, record.model_copy(update={"metrics": {"in_domain": {"accuracy": 0.5, **more}}}))
    page = render_page(analyse_folder(tmp_path))
    [part] = re.findall(r"<details><summary>Every metric.*?</details>", page, re.DOTALL)
    lines = re.findall(r"<tr>(.*?)</tr>", part, re.DOTALL)
    heads, *rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", line) for line in lines]
    found = {row[0]: dict(zip(heads[1:], row[1:], strict=True)) for row in rows}
    assert found["lora"]["mcc"] == "0.123" and found["lora"]["auroc"] == "–"
    assert found["pattern"]["mcc"] == "0.789" and found["pattern"]["auroc"] == "0.456"


def test_a_page_says_which_charts_it_leaves_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fewtune.report.page.MOST_GROUPS_IN_FULL", 2)
    for shots in (2, 3):
        make_study(tmp_path, {"lora": [0.8]}, shots=shots)
    assert "left out of a page" not in render_page(analyse_folder(tmp_path))
    make_study(tmp_path, {"lora": [0.8]}, shots=4)
    assert "Cost charts are left out of a page of 3 groups" in render_page(analyse_folder(tmp_path))


def test_a_folder_without_a_study_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no `trials` folder here"):
        analyse_folder(tmp_path)


def test_one_folder_always_gives_one_page(study: Path) -> None:
    first = write_report_page(analyse_folder(study), study).read_bytes()
    assert write_report_page(analyse_folder(study), study).read_bytes() == first


def test_the_metric_a_study_names_first_is_judged_by_and_every_metric_is_shown(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.8, 0.8], "vanilla": [0.6, 0.6]})
    (tmp_path / "study.yaml").write_text("name: a named study\nmetrics: [ece, macro_f1]\n")
    for record in load_records(tmp_path):
        metrics = {test: {**scores, "macro_f1": scores["accuracy"] / 2} for test, scores in record.metrics.items()}
        write_record(tmp_path, record.model_copy(update={"metrics": metrics}))
    page = write_report_page(analyse_folder(tmp_path), tmp_path).read_text()
    assert "<h1>a named study</h1>" in page
    assert "(0.400 macro_f1)" in page and "Every metric" in page
