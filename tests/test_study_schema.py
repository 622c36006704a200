"""Claims about the schema that editors complete studies with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fake_tables import install_tables
from fewtune.study import Study, study_schema
from study_text import GOOD, read


@pytest.fixture(autouse=True)
def _fake_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    install_tables(monkeypatch)


def test_the_schema_describes_every_task_method_and_setting() -> None:
    schema = study_schema()
    assert set(schema["properties"]) == set(Study.model_fields)
    assert schema["required"] == ["name", "tasks", "methods", "shots"]
    assert schema["additionalProperties"] is False
    items = schema["properties"]["methods"]["items"]["anyOf"]
    assert {item["const"] for item in items[:-1]} == {"majority", "in_context", "lora"}
    lora = items[-1]["properties"]["lora"]
    assert set(lora["properties"]) == {"rank", "learning_rate", "targets", "readout", "as", "grid", "models"}
    assert lora["properties"]["rank"] == {
        "default": 8,
        "description": "Rank of each adapter.",
        "minimum": 1,
        "title": "Rank",
        "type": "integer",
    }
    assert lora["description"] == "lora in a line."
    tasks = schema["properties"]["tasks"]["items"]["anyOf"]
    assert {item["const"] for item in tasks[:-1]} == {"sentiment", "mnli"}  # own_files cannot do without settings


def test_every_reference_of_the_schema_resolves() -> None:
    text = json.dumps(study_schema())
    defined = study_schema()["$defs"]
    for piece in text.split('"$ref": "#/$defs/')[1:]:
        assert piece.split('"')[0] in defined


def test_the_schema_accepts_a_good_study_and_refuses_faults(tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    yaml = pytest.importorskip("yaml")
    validator = jsonschema.Draft202012Validator(study_schema())
    validator.check_schema(study_schema())
    good = yaml.safe_load(GOOD.replace("1e-4", "1.0e-4"))
    assert list(validator.iter_errors(good)) == []
    assert list(validator.iter_errors(yaml.safe_load(read(tmp_path, GOOD).to_yaml()))) == []
    for race in ("decided", {"within": 0.02, "most_draws": 8}):
        assert list(validator.iter_errors({**good, "until": race})) == []
    for key, value in (
        ("until", "soon"),
        ("shots", [0]),
        ("methods", [{"lora": {"rnak": 1}}]),
        ("shotz", []),
        ("tasks", ["own_files"]),
    ):
        assert list(validator.iter_errors({**good, key: value})), key
