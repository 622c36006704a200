"""fewtune from Python: run a study, analyse its folder, fit one method, load what was saved.

Owns the public functions, which the package's own names lead to; the command line calls them too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fewtune.errors import FewtuneError

if TYPE_CHECKING:
    from fewtune.predictors.predictor import Predictor
    from fewtune.report.results import StudyResult
    from fewtune.running.executors.base import Executor
    from fewtune.running.run_study import StudyEvent
    from fewtune.study import Study


def run_study(
    study: Path | str | Mapping[str, Any] | Study,
    out: Path | str | None = None,
    *,
    data_dir: Path | str | None = None,
    executor: Executor | Literal["ray"] | None = None,
    on_event: Callable[[StudyEvent], None] = lambda event: None,
    forecast: bool = False,
    shard: tuple[int, int] | None = None,
) -> StudyResult:
    """Run a study's trials, reusing those already done in `out`, and analyse them.

    `study` is a file's path, the values that such a file holds, or a `Study`; `out` the folder for records,
    `out/<study name>` where not given; `data_dir` holds the tasks' files instead of fetching them; `executor` says
    where trials run and where they find those files: worker processes of this machine where not given, `"ray"` for the
    Ray cluster that RAY_ADDRESS names (`fewtune[ray]`); `on_event` hears what goes on
    (`fewtune.running.run_study`), with `forecast` what trials are thought to take too, before they run.
    `shard`: which part of how many, from 1, runs here (`merge_folders` joins them). Raises StudyError with every fault
    of a study at once, RecordError where the folder cannot be used.

    >>> import fewtune
    >>> from pathlib import Path
    >>> rows = "text,label\\n" + "".join(f"{word} {i},{label}\\n" for i in range(9)
    ...                                 for word, label in (("good", "praise"), ("bad", "complaint")))
    >>> _ = Path("feedback.csv").write_text(rows)
    >>> result = fewtune.run_study({
    ...     "name": "feedback", "tasks": [{"own_files": {"train": "feedback.csv"}}], "methods": ["majority", "tfidf"],
    ...     "shots": [4], "data_seeds": [0, 1]})
    >>> sorted(result.table()["variant"].to_list())
    ['majority', 'tfidf']
    """
    from fewtune.report.results import read_result
    from fewtune.running.executors.local import LocalProcesses
    from fewtune.running.job import WorkerOptions
    from fewtune.running.run_study import conduct_study
    from fewtune.running.shard import Shard
    from fewtune.study import Study, load_study, read_study

    if not isinstance(executor, str | None) and data_dir is not None:
        raise FewtuneError("data_dir and an executor are given: give data_dir in the executor's WorkerOptions.")
    if isinstance(study, Study):
        plan = study
    else:
        plan = load_study(study) if isinstance(study, str | Path) else read_study(study)
    folder = Path("out") / plan.name if out is None else Path(out)
    rows = None if data_dir is None else Path(data_dir)
    options = WorkerOptions(data_dir=rows)
    chosen: Executor
    if executor == "ray":
        from fewtune.running.executors.ray import RayActors

        chosen = RayActors(options, plan.resources)
    elif isinstance(executor, str):
        raise FewtuneError(f"executor is {executor!r}: give 'ray', or nothing for worker processes of this machine.")
    else:
        chosen = LocalProcesses(options, auto=True) if executor is None else executor
    conduct_study(plan, folder, chosen, on_event, forecast, None if shard is None else Shard(*shard))
    return read_result(folder)


def analyse(folder: Path | str) -> StudyResult:
    """Analyse the records of a study that was run, on this machine or another; needs no torch.

    Raises RecordError where the folder holds none.

    >>> import fewtune
    >>> result = fewtune.analyse("out/feedback")
    >>> result.name, len(result.records)
    ('feedback', 4)
    >>> result.plot("scores").to_dict()["$schema"].split("/")[-2]
    'vega-lite'
    """
    from fewtune.report.results import read_result

    return read_result(Path(folder))


def fit(
    rows: Sequence[str | Mapping[str, str]],
    labels: Sequence[str],
    method: str,
    model: str | None = None,
    *,
    seed: int = 0,
    **settings: Any,
) -> Predictor:
    """Fit one method on all these labelled rows; `settings` are the method's own.

    A row is a text, or a mapping where it has several. Raises FewtuneError where something cannot be used.

    >>> import fewtune
    >>> texts = ["came early and whole", "a pleasure to use", "crushed and wet", "it stopped after a day"]
    >>> predictor = fewtune.fit(texts, ["praise", "praise", "complaint", "complaint"], "tfidf")
    >>> predictor.predict(["early and whole", "wet and crushed"])
    ['praise', 'complaint']
    >>> predictor.save("feedback-model")
    """
    from fewtune.running.fit_rows import fit_rows

    return fit_rows(rows, labels, method, model, settings, seed)


def load(folder: Path | str, base: Path | str | None = None) -> Predictor:
    """Read a predictor that was saved; its scores equal those it gave then.

    `base` is where its base model lies, where that is not the name it was fitted under. Raises PredictorError where the
    folder is no predictor's, is damaged or newer, or the base is another model.

    >>> import fewtune
    >>> fewtune.load("feedback-model").predict(["a pleasure"])
    ['praise']
    """
    from fewtune.predictors.model_folder import load_predictor

    return load_predictor(folder, base)
