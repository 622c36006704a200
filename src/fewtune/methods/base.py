"""The interface of a method: its settings, and a plan made from a model, a task and a draw.

Owns the contract. A method never runs its own loop: it says what trains, on which examples, under which loss,
and how rows are scored; the engine does the rest. Test rows never reach `plan`.

A method module defines `METHOD` and stands in the table `METHODS` of `fewtune.methods`. It imports torch (and
whatever imports torch) only inside `plan`, so that a study is checked and listed without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedConfig

    from fewtune.engine.language_model import LanguageModel
    from fewtune.methods.plan import Plan
    from fewtune.models.architectures.base import Ability
    from fewtune.tasks.base import Draw, Task

# What settings may be at most: a value beyond is a slip that would run for years, or that no float32 holds.
MOST_EPOCHS = 100_000
MOST_BLOCKS = 10_000
MOST_RANK = 65_536
MOST_DEMONSTRATIONS = 1_000_000
LARGEST_RATE = 1000.0
LARGEST_NUMBER = 1e12
SMALLEST_NUMBER = 1e-12


class PlanFunction(Protocol):
    """Make the plan of one trial; `rng` is seeded from the trial's axes and is the only source of randomness."""

    def __call__(
        self, settings: Any, model: LanguageModel | None, task: Task, draw: Draw, rng: np.random.Generator
    ) -> Plan: ...


class ResolveFunction(Protocol):
    """A method's settings with every null that stands for a value replaced by it.

    `shots` are the support's rows, `pool_rows` the unlabelled ones. What only a running trial can know stays null.
    """

    def __call__(self, settings: Any, task: Task, shots: int, pool_rows: int) -> Any: ...


@dataclass(frozen=True)
class Method:
    """One way to adapt a model.

    `settings` is a frozen dataclass whose fields are `Annotated[type, pydantic.Field(description=...)]` with
    defaults known to work. `skip_reason(settings, config, task)` says why a method cannot be used, or None, from the
    model's configuration and this machine alone: it is asked before anything is loaded.
    """

    name: str
    summary: str
    source_url: str
    settings: type
    plan: PlanFunction
    uses_model: bool = True
    uses_fit_seed: Callable[[Any], bool] = lambda settings: True
    """Whether anything is random with these settings; where not, a study's fit seeds are one trial."""
    uses_pattern: Callable[[Any], bool] = lambda settings: True
    """Whether these settings read a pattern, where they have one; where not, a study's patterns are one trial."""
    trains: bool = True
    """Whether a network's weights or an adapter's are fitted; where not, it takes frozen features or answers."""
    baseline: bool = False
    """Whether every study runs it unless told `baselines: false`: what any adaptation has to beat."""
    constant: bool = False
    """Whether it answers every row alike: where it is chosen, nothing was learnt."""
    revision: int = 1
    """Raised when the same settings come to mean another result: it enters a trial's identity."""
    needs_pool: Callable[[Any], bool] = lambda settings: False
    """Whether these settings need unlabelled pool rows; a study without any is refused."""
    other_models: Callable[[Any], tuple[str, ...]] = lambda settings: ()
    """Teachers these settings need besides the trial's own model, by name; see `model.find`."""
    shares_vocabulary: Callable[[Any], bool] = lambda settings: True
    """Whether those teachers must have the vocabulary of the trial's own model."""
    needs: Callable[[Any], frozenset[Ability]] = lambda settings: frozenset()
    """What a model must be able to do for these settings; the method is skipped on one that cannot."""
    skip_reason: Callable[[Any, PreTrainedConfig | None, Task], str | None] = lambda settings, config, task: None
    defaults_tried: Mapping[str, int] = field(default_factory=dict)
    """From how many settings its defaults were chosen, by the task whose development rows judged them
    (docs/defaults.md); empty where none was tried here, as where they are a paper's own."""
    resolve: ResolveFunction = lambda settings, task, shots, pool_rows: settings
    """Asked of every trial before its id is made; `plan` gets what comes of it. A null pattern is the task's first."""


_LACKING: dict[Ability, str] = {
    "label_words": "the model says no words (it has no language-model head): use a method with a head, or embeddings",
    "reads_on": "the model is an encoder, whose rows cannot go on from what stands before them: use a decoder",
}


def find_skip_reason(method: Method, settings: Any, config: PreTrainedConfig | None, task: Task) -> str | None:
    """Why a method cannot be used on a model of that configuration, or None."""
    from fewtune.models.architectures import find_architecture

    if config is not None:
        missing = method.needs(settings) - find_architecture(config).find_abilities(config)
        if missing:
            return _LACKING[min(missing, key=list(_LACKING).index)]
    return method.skip_reason(settings, config, task)


def refuse_beyond_blocks(setting: str, wanted: int, config: PreTrainedConfig | None) -> str | None:
    """Why to skip, where a setting asks for more transformer blocks than the model has; None where it does not."""
    have = config.num_hidden_layers if config is not None else 0
    return None if wanted <= have else f"{setting} is {wanted} and the model has {have} blocks: set {have} or fewer"
