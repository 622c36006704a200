"""`fewtune list` and `fewtune schema`: what a study can name, for people and for editors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from fewtune.cli.output import console
from fewtune.errors import FewtuneError
from fewtune.system.terminal import write_export

if TYPE_CHECKING:
    from rich.table import Table


def list_(
    what: Annotated[Literal["methods", "tasks", "models"], Parameter(help="What is listed.")],
    name: Annotated[str | None, Parameter(help="A method or a task, whose settings are listed.")] = None,
    /,
) -> int:
    """List what a study can name, or the settings of a method or a task with their defaults."""
    if name is not None and what == "models":
        raise FewtuneError("a model has no settings of its own: leave the name out, or name a method or a task.")
    console.print(_list_names(what) if name is None else _list_settings(what.removesuffix("s"), name))
    return 0


def _list_names(what: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("name", no_wrap=True)
    table.add_column("what it is")
    if what == "methods":
        from fewtune.methods import METHODS, get_method

        for name in METHODS:
            table.add_row(name, get_method(name).summary)
    elif what == "tasks":
        from fewtune.tasks import TASKS, get_task_module

        for name in TASKS:
            table.add_row(name, get_task_module(name).SUMMARY)
    else:
        from fewtune.models import CATALOGUE

        for entry in CATALOGUE.values():
            table.add_row(entry.name, f"{entry.identity}; {entry.source}; {entry.licence}")
        table.add_row(
            "owner/name",
            "a causal or masked language model, or a sentence encoder, of the hub, as safetensors",
        )
        table.add_row("a/folder", "a local folder with config.json, *.safetensors and its tokenizer")
    return table


def _list_settings(what: str, name: str) -> Table | str:
    from rich.table import Table

    from fewtune.study.describe import describe_settings
    from fewtune.system.terminal import make_text

    settings = describe_settings(what, name)
    if not settings:
        return f"{name} has no settings."
    table = Table(box=None, pad_edge=False, collapse_padding=True, padding=(0, 2, 0, 0))
    table.add_column("setting", no_wrap=True)
    for head in ("default", "what it may be", "what it is"):
        table.add_column(head)
    for words in settings:
        told = (words.name, words.default or "to be given", words.values, words.meaning)
        table.add_row(*map(make_text, told))
    return table


def schema() -> int:
    """Print the JSON Schema of a study, for editors."""
    import json

    from fewtune.study import study_schema

    write_export(json.dumps(study_schema(), indent=1) + "\n")
    return 0
