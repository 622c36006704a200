"""Published studies to compare with: their figures, how their methods were built, and known errors.

Owns these values, which of our methods answers to a published one, and finding a cell. The figures are data,
`studies/published/`, beside the studies that ask the same questions. Does not know records or how anything is shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

FILES = {"paper": "arxiv-2405.13181.yaml"}
"""The files of published studies by the names they are asked for."""
FOLDERS = (Path(__file__).parents[1] / "published_studies", Path(__file__).parents[3] / "studies" / "published")
"""Where these files lie: in an installed package, in a clone."""


@dataclass(frozen=True)
class PublishedTask:
    """A task as published; accuracies in per cent."""

    name: str
    labels: tuple[str, ...]
    in_domain_rows: int
    in_domain_majority: float | None
    out_of_domain_sets: tuple[str, ...]
    """Names that its out-of-domain rows have here."""
    out_of_domain_rows: int


@dataclass(frozen=True)
class Counterpart:
    """One of our methods that answers to a published one, where its settings hold all of `settings`."""

    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    difference: str = ""
    """What ours does otherwise, in words; empty where both are built alike."""


@dataclass(frozen=True)
class PublishedMethod:
    """A method under the published name, what it was built as, and ours that answer to it, likest first."""

    name: str
    built_as: str
    counterparts: tuple[Counterpart, ...]
    on_all_rows: bool = False
    """Whether it was fitted on every labelled row there is, and on no shots."""


@dataclass(frozen=True)
class PublishedResult:
    """One cell: accuracies in per cent; `shots_total` counts labelled rows, None where all there are were used."""

    task: str
    method: str
    model: str
    shots_per_class: int | None
    shots_total: int | None
    epochs: int
    in_domain: float
    out_of_domain: float


@dataclass(frozen=True)
class PublishedTime:
    """Seconds that training took, from the fastest to the slowest run told, at 128 rows a class or on all rows."""

    task: str
    method: str
    model: str
    shots_per_class: int | None
    fastest_seconds: int
    slowest_seconds: int
    gpu: str
    per_epoch: bool = False


@dataclass(frozen=True)
class Caveat:
    """Something wrong with published figures; empty `tasks` or `methods` mean all."""

    name: str
    text: str
    tasks: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()


@dataclass(frozen=True)
class Figures:
    """Accuracies in per cent of one method and model on one task, by shots a class or by epochs."""

    task: str
    method: str
    model: str
    in_domain: tuple[float, ...]
    out_of_domain: tuple[float, ...]


@dataclass(frozen=True)
class PublishedStudy:
    """All that was published, as its file holds it."""

    source: str
    code: str
    tasks: tuple[PublishedTask, ...]
    methods: tuple[PublishedMethod, ...]
    shots_per_class: tuple[int, ...]
    epochs: int
    """Epochs that few-shot fits had."""
    few_shot: tuple[Figures, ...]
    all_rows: tuple[Figures, ...]
    times: tuple[PublishedTime, ...]
    caveats: tuple[Caveat, ...]
    time_caveat: Caveat

    def task(self, name: str) -> PublishedTask | None:
        """The published task of that name."""
        return next((task for task in self.tasks if task.name == name), None)

    def results(self) -> Iterator[PublishedResult]:
        """Every published accuracy."""
        labels = {task.name: len(task.labels) for task in self.tasks}
        for figures in self.few_shot:
            for shots, inside, outside in zip(
                self.shots_per_class, figures.in_domain, figures.out_of_domain, strict=True
            ):
                total = shots * labels[figures.task]
                place = (figures.task, figures.method, figures.model, shots, total, self.epochs)
                yield PublishedResult(*place, inside, outside)
        for figures in self.all_rows:
            pairs = zip(figures.in_domain, figures.out_of_domain, strict=True)
            for epochs, (inside, outside) in enumerate(pairs, start=1):
                yield PublishedResult(figures.task, figures.method, figures.model, None, None, epochs, inside, outside)

    def find(self, task: str, method: str, model: str, shots_total: int | None) -> PublishedResult | None:
        """The cell of a task, method (by its published name), model and number of labelled rows, else None.

        `shots_total` None asks for the result on all labelled rows, after its last epoch. A model is known by its
        catalogue name, hub id or a folder of that name.
        """
        wanted = (task, method, _name_model(model), shots_total)
        found = [r for r in self.results() if (r.task, r.method, r.model, r.shots_total) == wanted]
        return max(found, key=lambda result: result.epochs, default=None)

    def find_time(self, result: PublishedResult) -> PublishedTime | None:
        """The training time told for a cell's task, method, model and shots; None where none is."""
        wanted = (result.task, result.method, result.model, result.shots_per_class)
        times = (time for time in self.times if (time.task, time.method, time.model, time.shots_per_class) == wanted)
        return next(times, None)

    def list_caveats(self, task: str, method: str) -> tuple[Caveat, ...]:
        """What is wrong with a method's figures on a task."""
        return tuple(
            caveat
            for caveat in self.caveats
            if task in (caveat.tasks or (task,)) and method in (caveat.methods or (method,))
        )


@cache
def load_published(name: str) -> PublishedStudy:
    """A published study by its name in FILES."""
    import yaml

    path = next((path for folder in FOLDERS if (path := folder / FILES[name]).is_file()), FOLDERS[-1] / FILES[name])
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    return TypeAdapter(PublishedStudy).validate_python(raw)


def find_counterpart(method: PublishedMethod, ours: str, settings: Mapping[str, Any]) -> Counterpart | None:
    """How one of our methods with those settings answers to a published one; None where it does not."""
    for counterpart in method.counterparts:
        fits = all(key in settings and settings[key] == value for key, value in counterpart.settings.items())
        if counterpart.method == ours and fits:
            return counterpart
    return None


def _name_model(model: str) -> str:
    return model.rstrip("/").rsplit("/", 1)[-1].lower()
