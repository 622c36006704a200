"""Imports go one way: from what runs towards what it needs, never back; analysing and reporting need no torch."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

from fewtune.methods import OWN

SOURCE = Path(__file__).parent.parent / "src" / "fewtune"

# Each layer may import the layers before it, and parts of its own. A part of a package may have a layer of its own.
LAYERS = [
    {"plurals"},
    {"errors", "guarantee"},
    {"system"},
    {"metrics"},
    {"records"},
    {"data"},
    {"tasks"},
    {"models"},
    {"prompts"},
    {"engine"},
    {"predictors"},
    {"methods"},
    {"study"},
    {"inference"},
    {"analysis"},
    {"running"},
    {"running.executors"},
    {"running.run_study", "running.merging"},
    {"tracking"},
    {"report"},
    {"exporting"},
    {"api"},
    {"serving", "fitting"},
    {"estimator"},
    {"cli"},
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
# What analysing and reporting may know: records alone join them to what runs. Published figures are for reports.
ANALYSIS_MAY_USE = {
    "inference": {"plurals", "errors", "metrics", "inference"},
    "analysis": {"plurals", "errors", "guarantee", "system", "metrics", "records", "inference", "analysis"},
    "report": {"plurals", "errors", "guarantee", "system", "metrics", "records", "inference", "analysis", "report"},
}


def name_part(parts: Sequence[str]) -> str:
    """The part that has a layer, of a module's names below `fewtune`: the package's own, or that of its part."""
    nested = ".".join(parts[:2])
    return nested if nested in RANK else parts[0]


def imports_of(path: Path) -> set[str]:
    """The fewtune parts that a file imports, wherever in the file, but for type checking."""
    found: set[str] = set()

    class Visitor(ast.NodeVisitor):
        def visit_If(self, node: ast.If) -> None:
            if not (isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"):
                self.generic_visit(node)

        def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
            if node.module and node.module.startswith("fewtune."):
                below = node.module.split(".")[1:]
                found.update(name_part([*below, alias.name]) for alias in node.names)
            elif node.module == "fewtune":
                found.update(alias.name for alias in node.names if alias.name in RANK)

        def visit_Import(self, node: ast.Import) -> None:
            found.update(name_part(a.name.split(".")[1:]) for a in node.names if a.name.startswith("fewtune."))

    Visitor().visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


FILES = sorted(p for p in SOURCE.rglob("*.py") if p.parent != SOURCE or p.stem != "__init__")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_go_the_way_of_the_arrow(path: Path) -> None:
    part = name_part(path.relative_to(SOURCE).with_suffix("").parts)
    assert part in RANK, f"{part} has no place in LAYERS"
    for other in imports_of(path):
        assert RANK[other] <= RANK[part], f"{part} must not import {other}"
    assert imports_of(path) <= ANALYSIS_MAY_USE.get(part, set(RANK))


@cache
def compared_constants(path: Path) -> set[object]:
    """The constants that a file compares anything with, alone or one of several, and those that its cases match."""
    sides: list[ast.AST] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Compare):
            sides += [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            sides.append(node.value)
    sides += [each for side in sides if isinstance(side, ast.Tuple | ast.List | ast.Set) for each in side.elts]
    return {side.value for side in sides if isinstance(side, ast.Constant)}


def test_constants_are_found_wherever_a_file_compares_with_them(tmp_path: Path) -> None:
    file = tmp_path / "branching.py"
    file.write_text("a == 'one', a in ('two', 'three'), not 'said'\nmatch a:\n    case 'four' | 'five': pass\n")
    assert compared_constants(file) == {"one", "two", "three", "four", "five"}


@pytest.mark.parametrize("name", OWN)
def test_only_its_own_file_knows_a_method_by_name(name: str) -> None:
    own = SOURCE.parent / Path(*OWN[name].split(".")).with_suffix(".py")
    assert own.is_file()
    for other in SOURCE.rglob("*.py"):
        if other != own:
            assert name not in compared_constants(other), f"{other.name} branches on {name!r}"


def test_peft_is_imported_in_one_place_which_keeps_it_quiet() -> None:
    """PEFT imports bitsandbytes, which warns as it is imported: whoever comes first must hold that back."""
    for path in SOURCE.rglob("*.py"):
        if path.relative_to(SOURCE).parts[0] == "exporting" or path.stem == "adapters":
            continue  # what is exported was loaded before, by predictors/network
        named = {n.module or "" for n in _run_statements(path) if isinstance(n, ast.ImportFrom)}
        named |= {alias.name for n in _run_statements(path) if isinstance(n, ast.Import) for alias in n.names}
        assert not any(name.split(".")[0] == "peft" for name in named), f"{path}: import it from models/adapters"


def _run_statements(path: Path) -> list[ast.AST]:
    """All that a file runs, whatever it imports for type checking alone left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    return [node for node in ast.walk(tree) if id(node) not in typing]


def test_test_files_have_names_of_their_own() -> None:
    names = Counter(path.name for path in Path(__file__).parent.rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == [], "pytest collects one of a name"
