"""Options of `fewtune fit`, in groups, and the check that those given go together.

Owns names, help texts and bounds of its options.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from fewtune.cli.options import DataDir, check_number, check_share, make_flag
from fewtune.errors import FewtuneError, list_names
from fewtune.system.durations import parse_seconds

if TYPE_CHECKING:
    from fewtune.fitting.terms import ModelLimits

TEST_HELP = "Test rows, as FILE (in domain) or NAME=FILE (out of domain): the model is measured on them."
AUTO = "auto"
"""A method's name for those that suit."""
BUDGET = "5m"
MOST_FOLDS = 20
LARGEST_SEED = 2**32 - 1
MOST_TOKENS = 1 << 20
MOST_ROWS = 100_000_000


@Parameter(name="*")
@dataclass(frozen=True)
class ColumnOptions:
    """Which columns are read, and where other rows are."""

    text: Annotated[
        list[str] | None,
        Parameter(help="The column of texts; give it twice for rows of two, such as subject and body."),
    ] = None
    label: Annotated[
        str | None, Parameter(help="The column of labels; `label`, or the one that repeats few values, if not given.")
    ] = None
    test: Annotated[list[str] | None, Parameter(help=TEST_HELP)] = None
    conflicts: Annotated[
        Literal["drop", "refuse"],
        Parameter(
            help="Rows of one text with different labels: leave all of them out of training, or stop. Both list them, "
            "and those of test files."
        ),
    ] = "drop"
    missing: Annotated[
        Literal["refuse", "drop"],
        Parameter(help="Rows without a text or a label: stop and list them, or leave them out and count them."),
    ] = "refuse"
    unlabelled: Annotated[
        Path | None, Parameter(help="File of rows without labels, to be ranked by how useful a label would be.")
    ] = None


@Parameter(name="*")
@dataclass(frozen=True)
class ChoiceOptions:
    """What is tried, and how it is chosen."""

    method: Annotated[
        list[str] | None, Parameter(help="A method to try, several times for several; those that suit if not given.")
    ] = None
    model: Annotated[
        list[str] | None,
        Parameter(
            help="A language model or sentence encoder to try, several times for several; those that suit if not given."
        ),
    ] = None
    fast: Annotated[bool, make_flag("Try frozen features alone: the quickest, no network trains.")] = False
    budget: Annotated[
        str | None,
        Parameter(
            help="Time for choosing and fitting, from the command's start, as 90s, 5m or 2h; "
            f"{BUDGET} if not given, none for one candidate. With little left it fits and saves what is best so far."
        ),
    ] = None
    metric: Annotated[
        str | None,
        Parameter(
            help="What candidates are compared by, such as macro_f1 or mcc; else accuracy, beyond two labels macro_f1."
        ),
    ] = None
    within: Annotated[
        float | None,
        Parameter(help="The tolerance (0.03: three points): for `Use X` the expected loss is a sixth of it at most."),
    ] = None
    max_latency: Annotated[
        str | None, Parameter(help="What the model may take to answer a row, as 50ms or 1s, answered many at once.")
    ] = None
    max_fit_seconds: Annotated[float | None, Parameter(help="Seconds that one fit on all rows may take.")] = None
    max_memory: Annotated[
        str | None, Parameter(help="Memory that the weights of the model may take, such as 400MB or 1GiB.")
    ] = None
    seed: Annotated[int, Parameter(help="Seed of folds and fits.")] = 0
    max_tokens: Annotated[
        int | None,
        Parameter(help="Tokens read of one row; 512 if not given, or what a model can. Longer texts lose their ends."),
    ] = None
    verbose: Annotated[bool, make_flag("Say a line for each fold of each candidate.")] = False

    def check(self) -> float | None:
        """The seconds of the budget, None where none is given; refuse what is out of range."""
        check_share("--within", self.within, "take the best alone")
        check_number("--seed", self.seed, 0, LARGEST_SEED)
        if self.max_tokens is not None:
            check_number("--max-tokens", self.max_tokens, 1, MOST_TOKENS)
        if self.fast and self.methods:
            raise FewtuneError("--fast and --method: --fast says which methods are tried. Leave one of them out.")
        return None if self.budget is None else parse_seconds("--budget", self.budget)

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that are named."""
        return tuple(name for name in self.method or () if name != AUTO)

    def read_limits(self) -> ModelLimits:
        """What the saved model may take."""
        from fewtune.fitting.terms import read_limits

        return read_limits(self.max_latency, self.max_fit_seconds, self.max_memory, name_option)


@Parameter(name="*")
@dataclass(frozen=True)
class Calibration:
    """What folds of the rows are used for."""

    folds: Annotated[
        int | None,
        Parameter(
            help="Parts of the rows, each answered by models fitted on the others; 4 if not given. 0, for one "
            "candidate alone: no calibration."
        ),
    ] = None
    abstain_at: Annotated[
        float | None, Parameter(help="Say nothing where unsure, so that at most this share of answers is wrong.")
    ] = None
    none_label: Annotated[
        str | None,
        Parameter(
            help="The label of rows that belong to none of the others. Folds choose how readily it is given: so that "
            "the mean of two shares is largest, its rows found and other rows answered right."
        ),
    ] = None
    curve: Annotated[
        bool,
        make_flag("Fit on more and more of the rows, and say what twice as many would bring."),
    ] = False

    def check(self) -> None:
        """Refuse what is out of range."""
        if self.folds is not None:
            check_number("--folds", self.folds, 0, MOST_FOLDS)
        risk = self.abstain_at
        if risk is not None and not 0 < risk < 1:
            raise FewtuneError(f"--abstain-at is {risk:g}; give a share of wrong answers above 0 and under 1.")
        if risk is not None and self.folds == 0:
            raise FewtuneError(
                "--abstain-at needs folds of the rows to choose its threshold by: give --folds 2 or more."
            )


@Parameter(name="*")
@dataclass(frozen=True)
class Source:
    """A finished study in place of a file."""

    from_: Annotated[
        Path | None,
        Parameter(
            name="--from",
            help="The folder of a finished study, in place of a file: what it chose is fitted on all rows "
            "of its task, with the settings and the pattern that its trials had.",
        ),
    ] = None
    task: Annotated[str | None, Parameter(help="Which task of the study, where it has several.")] = None
    rows: Annotated[
        int | None, Parameter(help="Fit on so many of the task's rows, with its shares of labels; all if not given.")
    ] = None
    data_dir: DataDir = None

    def check(
        self, train: Path | None, columns: ColumnOptions, choice: ChoiceOptions, calibration: Calibration
    ) -> None:
        """Refuse options of a file beside a study's folder, and of a study beside a file."""
        if self.rows is not None:
            check_number("--rows", self.rows, 2, MOST_ROWS)
        if self.from_ is None:
            given = _list_given(Source(), self)
            if given:
                raise FewtuneError(f"{list_names(given)}: for a study's folder. Give one with --from, or leave it out.")
            if train is None:
                raise FewtuneError("give the file of labelled rows, or with --from the folder of a finished study.")
            return
        given = ["the file of rows"] if train is not None else []
        given += _list_given(ColumnOptions(unlabelled=columns.unlabelled), columns)
        given += _list_given(ChoiceOptions(seed=choice.seed), choice)
        given += ["--curve"] if calibration.curve else []
        if given:
            raise FewtuneError(
                f"{list_names(given)}: not beside --from, for the study says which rows, method and model. Leave out "
                "what is for files."
            )


def _list_given(defaults: Any, given: Any) -> list[str]:
    """The options of a group that were given another value than these."""
    values: Mapping[str, tuple[Any, Any]] = {
        each.name: (getattr(defaults, each.name), getattr(given, each.name)) for each in fields(defaults)
    }
    return [name_option(name) for name, (default, value) in values.items() if value != default]


def name_option(name: str) -> str:
    """How an option is written on the command line."""
    return f"--{name.strip('_').replace('_', '-')}"
