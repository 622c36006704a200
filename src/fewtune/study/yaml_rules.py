"""YAML by the 1.2 core rules, for reading and writing: `no` is a text, `1e-4` is a number.

Owns the loader and the dumper. Does not know what a study is.
"""

from __future__ import annotations

import re

import yaml


def _table_of_resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    rules = [
        ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
        ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
        ("int", r"[-+]?(?:0|[1-9][0-9]*)", list("-+0123456789")),
        (
            "float",
            r"[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)",
            list("-+.0123456789"),
        ),
    ]
    table: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    for tag, pattern, first_letters in rules:
        for letter in first_letters:
            table.setdefault(letter, []).append((f"tag:yaml.org,2002:{tag}", re.compile(rf"(?:{pattern})\Z")))
    return table


class Loader(yaml.SafeLoader):
    # PyYAML follows YAML 1.1, where `no` is false and `1e-4` is a text.
    yaml_implicit_resolvers = _table_of_resolvers()


class Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers = _table_of_resolvers()


def _write_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = '"' if "\n" in text else None  # a separator reads as "\n\n", not as blank lines
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


Dumper.add_representer(str, _write_text)
