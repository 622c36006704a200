"""Claims about overrides from the command line: how deep they reach, and what is said of a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from fake_tables import install_tables
from study_text import GOOD, find_faults, minimal, read


@pytest.fixture(autouse=True)
def _fake_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    install_tables(monkeypatch)


def test_overrides_reach_every_depth(tmp_path: Path) -> None:
    study = read(
        tmp_path,
        GOOD,
        [
            "name=other",
            "shots=[8]",
            "methods.3.lora.rank=4",
            "methods.1.in_context.demonstrations=2",
            "evaluation.out_of_domain_rows=null",
            "models.0.revision=abc",
            "pool_rows=10",
            "data_seeds={count: 2}",
        ],
    )
    assert (study.name, study.shots, study.pool_rows, study.data_seeds) == ("other", (8,), 10, (0, 1))
    assert study.methods[3].settings["rank"] == 4
    assert study.methods[1].settings["demonstrations"] == 2
    assert study.evaluation.out_of_domain_rows is None
    assert study.models[0].revision == "abc"


def test_overrides_create_a_mapping_that_the_file_leaves_out(tmp_path: Path) -> None:
    assert read(tmp_path, minimal(), ["evaluation.in_domain_rows=7"]).evaluation.in_domain_rows == 7


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("shots", "write path.to.key=value, for example shots=[16]."),
        ("shots..0=1", "write path.to.key=value, for example shots=[16]."),
        (
            "shots=[1",
            "not YAML: expected ',' or ']', but got '<stream end>' (while parsing a flow sequence).",
        ),
        ("shots={a: 1, a: 2}", "key 'a' is given twice (first on line 1): keep one."),
        ("methods.7.lora.rank=4", "'7' is no position in `methods`. Allowed: 0 to 3."),
        ("methods.lora.rank=4", "'lora' is no position in `methods`. Allowed: 0 to 3."),
        ("name.x=4", "`name` is \"demo\": there is no 'x' in it. Set the whole of it, name=…"),
        (
            "methods.0.lora.rank=4",
            "`methods.0` is \"majority\": there is no 'lora' in it. Set the whole of it, methods.0=…",
        ),
        ("methods.3.lora.rank=0", "`methods.3.lora.rank` is 0: it should be greater than or equal to 1."),
        ("shots=[0]", "`shots.0` is 0: it should be greater than or equal to 1."),
    ],
)
def test_a_fault_of_an_override_names_the_override(tmp_path: Path, override: str, message: str) -> None:
    faults = find_faults(tmp_path, GOOD, [override])
    assert any(
        line is None and what.startswith(f"--set {override}: ") and what.endswith(message) for line, what in faults
    ), faults


@pytest.mark.parametrize(
    ("override", "near"),
    [("shotz=[1]", "shots"), ("evalution.x=1", "evaluation"), ("methods.3.lora.rnak=1", "rank")],
)
def test_an_unknown_path_of_an_override_suggests_the_nearest(tmp_path: Path, override: str, near: str) -> None:
    [(line, message)] = find_faults(tmp_path, GOOD, [override])
    assert line is None
    assert message.startswith(f"--set {override}: unknown ")
    assert f"Did you mean '{near}'?" in message
