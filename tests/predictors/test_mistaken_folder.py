"""What stands where a saved model was looked for is told by what it is, with what to type instead."""

from __future__ import annotations

from pathlib import Path

import pytest

import fewtune
from command_line import run_cli
from fewtune.errors import PredictorError
from fewtune.exporting.export import export_model
from study_maker import make_study

ROWS = ["came early and whole", "a pleasure to use", "crushed and wet", "it stopped after a day"]


@pytest.fixture
def places(tmp_path: Path, model_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which what may be given by mistake lies."""
    monkeypatch.chdir(tmp_path)
    make_study(tmp_path / "study", {"pattern": [0.8, 0.9]})
    predictor = fewtune.fit(ROWS, ["praise", "praise", "complaint", "complaint"], "tfidf")
    predictor.save("saved")
    export_model(Path("saved"), Path("exported"))
    (tmp_path / "classifier").mkdir()
    (tmp_path / "classifier/config.json").write_text('{"model_type": "llama", "id2label": {"0": "bad", "1": "good"}}')
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter/adapter_config.json").write_text("{}")
    (tmp_path / "base").symlink_to(model_folders["llama"])
    (tmp_path / "empty").mkdir()
    (tmp_path / "rows.csv").write_text("text\nwet\n")
    return tmp_path


WORDS = {
    "study": "study holds a study's records and no model: 'fewtune fit --from study --save MODEL' makes one of what",
    "exported": "exported holds a model for other tools, such as 'fewtune export' writes; the README.md there says how",
    "classifier": "classifier holds a model for other tools",
    "adapter": "adapter holds a model for other tools",
    "base": "base is a language model that was fitted on no rows of yours: 'fewtune fit ROWS --model base --save",
    "smollm2-135m": "smollm2-135m is a language model that was fitted on no rows of yours: 'fewtune fit ROWS",
    "owner/name": "no such folder. Give one that 'fewtune fit --save' wrote. Where it is a model of the hub, '",
    "empty": "empty holds no manifest.json, and so no saved model. Give a folder that 'fewtune fit --save' wrote (in",
    "nowhere": "nowhere: there is no such folder. Give one that 'fewtune fit --save' wrote.",
    "study/model": "study/model: there is no such folder. Give one that 'fewtune fit --save' wrote.\n",
    "rows.csv": "rows.csv is a file, and a model is a folder. Give one that 'fewtune fit --save' wrote.",
}


@pytest.mark.parametrize("given", WORDS)
def test_what_is_no_saved_model_is_told_by_what_it_is(
    places: Path, given: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for more in (("predict", given, "rows.csv"), ("evaluate", given, "rows.csv"), ("export", given, "out")):
        code, out, told = run_cli(*more, capsys=capsys)
        assert (code, out) == (2, "") and WORDS[given] in told
        assert told.startswith("fewtune: ") and told.count("\n") == 1
    with pytest.raises(PredictorError):
        fewtune.load(given)
