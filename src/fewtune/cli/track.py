"""`fewtune track`, and `--track` of `fewtune run`: sends a study to an experiment tracker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from fewtune.cli.options import OutFolder
from fewtune.cli.output import complain, say
from fewtune.errors import FewtuneError
from fewtune.plurals import pluralise

if TYPE_CHECKING:
    from collections.abc import Callable

    from fewtune.running.run_study import StudyEvent
    from fewtune.tracking.base import Tracker

TrackerName = Literal["mlflow", "trackio"]
Uri = Annotated[
    str | None,
    Parameter(
        help="MLflow's server or store, else MLFLOW_TRACKING_URI or sqlite:///mlflow.db; Trackio's folder, else "
        "TRACKIO_DIR or its own."
    ),
]


@Parameter(name="*")
@dataclass(frozen=True)
class Tracking:
    """What a study is told to besides its folder."""

    track: Annotated[
        TrackerName | None,
        Parameter(help="Tell trials to an experiment tracker as they run (`fewtune[mlflow]`, `fewtune[trackio]`)."),
    ] = None
    track_uri: Uri = None

    @contextmanager
    def follow(self) -> Iterator[Callable[[StudyEvent], None]]:
        """What hears a study's events for the tracker, if there is one."""
        if self.track is None:
            if self.track_uri is not None:
                raise FewtuneError("--track-uri says where a tracker is: give --track with it.")
            yield lambda event: None
            return
        from fewtune.tracking.follow import Follower

        name, uri = self.track, self.track_uri
        _make_tracker(name, "", uri)  # what it needs is missing now or never
        with Follower(lambda study: _make_tracker(name, study, uri), complain, _format_answer) as follower:
            yield follower.hear


def track(out: OutFolder, /, *, to: Annotated[TrackerName, Parameter(help="Which tracker.")], uri: Uri = None) -> int:
    """Tell a tracker the trials of a study's folder that it lacks; told again, it is told nothing."""
    from fewtune.records.study_file import load_study_entry
    from fewtune.tracking.fill import fill_tracker

    tracker = _make_tracker(to, str(load_study_entry(out, "name") or out.name), uri)
    try:
        told, trials = fill_tracker(out, tracker)
        if told:
            tracker.conclude(_format_answer(out))
    except FewtuneError:
        raise
    except Exception as error:
        raise FewtuneError(
            f"{to} could not be told ({' '.join(f'{type(error).__name__}: {error}'.split())[:300]}). What it was told "
            "stays; the same command tells it the rest."
        ) from error
    say(f"{out}: {told} of {pluralise(trials, 'trial')} told to {to}; it had the others.")
    return 0


def _format_answer(out: Path) -> str:
    from fewtune.report.results import read_result

    return read_result(out).answer


def _make_tracker(name: TrackerName, study: str, uri: str | None) -> Tracker:
    from fewtune.tracking.base import check_installed
    from fewtune.tracking.mlflow import MlflowTracker
    from fewtune.tracking.trackio import TrackioTracker

    check_installed(name)
    return TrackioTracker(study, uri) if name == "trackio" else MlflowTracker(study, uri)
