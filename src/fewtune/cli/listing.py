"""`fewtune list` and `fewtune schema`: what a study can name, for people and for editors."""

from __future__ import annotations

from typing import Literal

from fewtune.cli.output import console


def list_(what: Literal["methods", "tasks", "models"]) -> int:
    """List what a study can name."""
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
    console.print(table)
    return 0


def schema() -> int:
    """Print the JSON Schema of a study, for editors."""
    import json

    from fewtune.study import study_schema

    print(json.dumps(study_schema(), indent=1))
    return 0
