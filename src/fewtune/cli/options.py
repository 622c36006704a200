"""Options that several commands have.

Owns their help texts, and the refusal of values out of range.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from fewtune.errors import FewtuneError, shorten
from fewtune.guarantee import Guarantee


def make_flag(told: str) -> Parameter:
    """An option that is given or not: of its default there is nothing to show."""
    return Parameter(help=told, show_default=False)


StudyPath = Annotated[Path, Parameter(help="The study, a YAML file.")]
Overrides = Annotated[
    list[str] | None,
    Parameter(name="--set", help="Change the study: path.to.key=value, such as shots=[4] or pool_rows=64."),
]
DataDir = Annotated[
    Path | None, Parameter(help="Folder with the tasks' files (cola/, mnli/ …), instead of fetching them.")
]
OutFolder = Annotated[Path, Parameter(help="A folder that `fewtune run` wrote.")]
Profile = Annotated[bool, make_flag("Print where the time went, by phase and by method.")]
Strict = Annotated[bool, make_flag("Exit with 1 where the audit finds an error.")]

GuaranteeOption = Annotated[
    Guarantee | None,
    Parameter(
        help="What a decision has to meet: a small expected loss, or a bound that holds with 95 % confidence and takes "
        "more draws; the study's own if not given."
    ),
]

Base = Annotated[str | None, Parameter(help="Where the base model lies; the name it was fitted under where not given.")]


def check_seconds(option: str, seconds: float | None, most: float | None = None) -> None:
    """Refuse seconds that are not above 0, or not a number, or more than `most`; None is an option not given."""
    if seconds is not None and not (seconds > 0 and (most is None or seconds <= most)):
        bound = "" if most is None else f", {most:g} at most"
        raise FewtuneError(f"{option} is {seconds:g}; give seconds above 0{bound}.")


def check_number(option: str, number: int, least: int, most: int) -> None:
    """Refuse a whole number outside of its bounds."""
    if not least <= number <= most:
        raise FewtuneError(f"{option} is {shorten(str(number))}; give {least} to {most}.")


def check_share(option: str, share: float | None, zero: str) -> None:
    """Refuse a share that is not within 0 to 1; `zero` says what 0 means, None is an option not given."""
    if share is not None and not 0 <= share <= 1:
        raise FewtuneError(f"{option} is {share:g}; give 0 ({zero}) to 1.")
