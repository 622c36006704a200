"""A predictor as the bytes of its saved files, which a pickle holds instead of a network.

Owns the way there and back, through `save_predictor` and `load_predictor`.
"""

from __future__ import annotations

from collections.abc import Mapping

from fewtune.predictors.model_folder import load_predictor, save_predictor
from fewtune.predictors.predictor import Predictor
from fewtune.records import open_scratch


def write_bytes(predictor: Predictor) -> dict[str, bytes]:
    """The content of each file of a saved predictor by its path; raises UnwrittenError where it cannot be saved."""
    with open_scratch() as scratch:
        folder = scratch / "model"
        save_predictor(predictor, folder)
        files = [path for path in folder.rglob("*") if path.is_file()]
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def read_bytes(files: Mapping[str, bytes]) -> Predictor:
    """The predictor of such files; raises PredictorError or ModelError where it cannot be loaded."""
    with open_scratch() as scratch:
        folder = scratch / "model"
        for name, content in files.items():
            path = (folder / name).resolve()
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return load_predictor(folder)
