"""README and the guide show what the tools really print, and every file and command they name exists."""

from __future__ import annotations

import io
import re
import shlex
from pathlib import Path

import pytest
from rich.console import Console

from fewtune import cli, load
from fewtune.analysis.study import analyse_folder
from fewtune.cli.app import app
from fewtune.methods import METHODS
from fewtune.records import is_packed, load_records
from fewtune.report.findings import show_findings
from fewtune.report.tables import show_leaderboard
from fewtune.running.prepare import load_task
from fewtune.study import load_study
from fewtune.tasks import TASKS
from study_maker import make_study

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", *(f"docs/{name}.md" for name in ("fit", "studies", "python", "commands", "trust", "demo")))
GUIDE = "\n".join((ROOT / page).read_text(encoding="utf-8") for page in PAGES)
"""What a user reads first, one page after the other."""


def shown_leaderboard(folder: Path) -> str:
    """What `fewtune report` prints for a folder into a pipe, trailing spaces apart."""
    out = io.StringIO()
    console, study = Console(file=out, width=80), analyse_folder(folder)
    show_findings(console, study.findings)
    show_leaderboard(console, study)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()).strip("\n")


def test_the_demos_output_is_that_of_the_committed_records() -> None:
    block = re.search(r"<!-- demo: .*? -->\n```\n(.*?)\n```\n<!-- /demo -->", GUIDE, re.DOTALL)
    assert block, "no page has a demo block"
    assert block.group(1).strip("\n") == shown_leaderboard(ROOT / "results" / "demo")


def test_the_committed_demo_is_the_demo_study() -> None:
    ran, ships = load_study(ROOT / "results/demo/study.yaml"), load_study(ROOT / "studies/demo.yaml")
    assert ran == ships
    assert len(load_records(ROOT / "results" / "demo")) == 21


def test_every_method_and_task_is_named() -> None:
    for name in (*METHODS, *TASKS):
        assert re.search(rf"\b{name}\b", GUIDE), name


@pytest.mark.parametrize("study", sorted((ROOT / "studies").glob("*.yaml")), ids=lambda p: p.stem)
def test_studies_that_ship_load(study: Path) -> None:
    assert load_study(study).name == study.stem


def test_the_readmes_own_study_loads(tmp_path: Path) -> None:
    block = re.search(r"```yaml\n# tickets.yaml\n(.*?)```", GUIDE, re.DOTALL)
    assert block
    path = tmp_path / "tickets.yaml"
    path.write_text(block.group(1))
    study = load_study(path)
    assert [choice.name for choice in study.methods][-3:] == ["in_context", "pattern", "lora"]


def test_the_readmes_own_pattern_is_read_as_it_stands(tmp_path: Path) -> None:
    (found,) = re.findall(r"```yaml\n(tasks:\n.*?)```", GUIDE, re.DOTALL)
    said = (("bill", "billing"), ("fix", "repairs"))
    rows = [f"{word} {number},{label}" for number in range(4) for word, label in said]
    for name in ("tickets", "test", "later"):
        lines = ["message,team", *(f"{name} {row}" for row in rows)]
        (tmp_path / f"{name}.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "study.yaml").write_text(f"name: own\nmethods: [majority]\nshots: [4]\n{found}")
    study = load_study(tmp_path / "study.yaml")
    (choice,) = study.tasks
    task = load_task(choice, tmp_path)
    assert task.primary_metric == "macro_f1" and [test.name for test in task.test_sets] == ["in_domain", "next_year"]
    (pattern,) = task.patterns
    assert dict(zip(task.labels, pattern.label_words, strict=True)) == {"billing": " billing", "repairs": " repairs"}
    assert pattern.template == "{message}\nTeam:"


def list_commands() -> list[str]:
    """What the guide's blocks tell to type, without what they say of it."""
    typed = [line for block in GUIDE.split("```")[1::2] for line in block.splitlines() if line.startswith("fewtune ")]
    return [re.split(r"\s+#|\s+>", line.removeprefix("fewtune "))[0] for line in typed]


@pytest.mark.parametrize("command", list_commands())
def test_a_command_of_the_guide_is_one_with_options_that_it_has(command: str) -> None:
    assert app.parse_args(shlex.split(command), print_error=False, exit_on_error=False)


def test_the_readmes_commands_are_found() -> None:
    assert {command.split()[0] for command in list_commands()} >= {"fit", "predict", "run", "audit", "merge", "pack"}


def test_the_readmes_recommendation_weighs_nothing_that_its_study_lacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_study(tmp_path, {"pattern": [0.84, 0.86, 0.82], "lora": [0.6, 0.7, 0.65]})
    found = re.search(r"fewtune recommend out/tickets (.*)", GUIDE)
    assert found
    with pytest.raises(SystemExit) as stopped:
        cli.main(["recommend", str(tmp_path), *found.group(1).split()])
    assert not stopped.value.code
    assert "Use lora: " in capsys.readouterr().out, "pattern takes more seconds than README asks"


def test_files_that_the_pages_name_exist() -> None:
    for page in (*PAGES, "ARCHITECTURE.md", "CONTRIBUTING.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        for name in re.findall(r"[`(]((?:studies|docs|results|tests|src|examples)/[\w./-]+)[`)#]", text):
            if name not in ("src/fewtune/methods/norms.py", "src/fewtune/tasks/parity.py"):
                assert (ROOT / name).exists(), f"{page} names {name}"


def test_links_between_pages_lead_somewhere() -> None:
    for page in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "ARCHITECTURE.md",
        *(ROOT / "docs").rglob("*.md"),
    ):
        for link, place in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", page.read_text(encoding="utf-8")):
            if link.startswith("http"):
                continue
            target = (page.parent / link).resolve() if link else page
            assert target.exists(), f"{page.name} links to {link}"
            if place and target.suffix == ".md":
                heads = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
                anchors = {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}
                assert place in anchors, f"{page.name} links to {link}#{place}"


def test_committed_records_hold_no_texts() -> None:
    for folder in (ROOT / "results").iterdir():
        for record in load_records(folder) if is_packed(folder) else []:
            said = [record.notes.prompt.template or "", *record.notes.warnings, *map(str, record.notes.other.values())]
            assert len(" ".join(said).split()) < 40, record.trial_id
            shown, teacher = record.notes.demonstrations, record.notes.teacher
            named = [row for notes in ([shown, *shown.others] if shown else []) for row in notes.rows]
            named += [row for context in teacher.contexts for row in context] if teacher else []
            named += [row for shared in record.notes.shared_rows for row in shared.example]
            assert all(re.fullmatch(r"[\w./-]+", row) for row in named), (
                f"{record.trial_id} names rows by more than ids"
            )


@pytest.mark.usefixtures("no_workers")
def test_the_python_lines_run_as_they_stand(
    model_folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (found,) = re.findall(r"```python\n(import fewtune\n.*?)```", GUIDE, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    rows = [f"it does not {word},repairs\nwhere is my {word},billing" for word in ("start", "move", "lamp", "refund")]
    (tmp_path / "tickets.csv").write_text("text,team\n" + "\n".join(rows) + "\n")
    (tmp_path / "tickets.yaml").write_text(
        "name: tickets\ntasks:\n  - own_files: {train: tickets.csv, text: text, label: team, test_fraction: 0.4}\n"
        "methods: [majority, tfidf]\nshots: [2]\nbaselines: false\n"
    )
    exec(found.replace("smollm2-135m", str(model_folders["llama"])), {})
    told = capsys.readouterr().out
    assert "tfidf" in told and ("['billing']" in told or "['repairs']" in told)
    assert (tmp_path / "out" / "tickets" / "report.html").is_file()


def test_the_classifiers_lines_run_as_they_stand(
    model_folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (found,) = re.findall(r"```python\n(import polars\n.*?)```", GUIDE, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    rows = [f"my {word} does not start,repairs\nan invoice for my {word},billing" for word in "abcdefgh"]
    (tmp_path / "tickets.csv").write_text("message,team\n" + "\n".join(rows) + "\n")
    exec(
        found.replace("FewtuneClassifier(b", f"FewtuneClassifier(model={str(model_folders['sentence-encoder'])!r}, b"),
        {},
    )
    told = capsys.readouterr().out
    assert "tfidf" in told and "embeddings" in told and ("['billing']" in told or "['repairs']" in told)
    assert load(tmp_path / "tickets-classifier").labels == ("billing", "repairs")
