"""Claims about study files that ask for too much: small files that would cost gigabytes or years cost a message."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fake_tables import install_tables
from fewtune.errors import StudyError
from fewtune.study import load_study, study_schema
from study_text import GOOD, find_faults, minimal, read

DEEP = "[" * 2000 + "]" * 2000
LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 11)
)
"""Ten thousand million values in a few hundred characters."""
LADDER = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 2000))
"""Two levels in the file, two thousand once its aliases are written out."""
LONG = f"a: &a {'x' * 100_000}\nb: [{', '.join(['*a'] * 1000)}]\n"
"""A hundred million characters in a hundred thousand."""


@pytest.fixture
def _fake_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    install_tables(monkeypatch)


@pytest.mark.usefixtures("_fake_tables")
@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (minimal(evaluation=DEEP), 5, "lists and mappings stand more than 50 levels deep"),
        (minimal() + "".join(f"{' ' * i}k:\n" for i in range(1000)), None, "lists and mappings stand more than 50"),
        (minimal() + LADDER, None, "lists and mappings stand more than 50 levels deep"),
        (minimal() + LAUGHS, None, "more than 100000 values or 4000000 characters, each alias written out"),
        (minimal() + LONG, None, "more than 100000 values or 4000000 characters, each alias written out"),
        (minimal() + "#" * 1_000_000, None, "more than 1000000 characters: that is no study"),
        (minimal(pool_rows="9" * 5000), 5, f"'{'9' * 77}...' cannot be read as int."),
        (minimal(pool_rows="9" * 400), 5, f"'{'9' * 77}...' cannot be read as int."),
        (minimal(equivalence="9" * 400 + ".5"), 5, f"'{'9' * 77}...' cannot be read as float."),
        (minimal(name=r'"a\ud800"'), 1, r"'a\ud800' holds a NUL character or half a character"),
        (minimal(name=r'"a\0b"'), 1, r"'a\x00b' holds a NUL character or half a character"),
        (minimal() + r'"\ud800": 4' + "\n", 5, r"'\ud800' holds a NUL character or half a character"),
        (minimal(name=r'"\UFFFFFFFF"'), None, "not YAML: "),
        (f"%YAML 1.{'9' * 5000}\n---\n" + minimal(), None, "not YAML: "),
    ],
)
def test_a_file_that_would_cost_too_much_costs_a_message(
    tmp_path: Path, text: str, line: int | None, message: str
) -> None:
    faults = find_faults(tmp_path, text)
    assert any(what.startswith(message) and line in (where, None) for where, what in faults), faults
    assert len(str(faults)) < 5000


@pytest.mark.usefixtures("_fake_tables")
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (f"evaluation={DEEP}", "its value is refused: lists and mappings stand more than 50 levels deep"),
        (f"evaluation={{{LAUGHS.replace(chr(10), ', ')}}}", "its value is refused: more than 100000 values"),
        (f"pool_rows={'9' * 400}", "cannot be read as int."),
        (f"shots.{'9' * 5000}=4", "is no position in `shots`."),
        (r'name="\ud800"', "holds a NUL character or half a character"),
    ],
)
def test_a_value_on_the_command_line_is_bounded_alike(tmp_path: Path, value: str, message: str) -> None:
    [(_, fault)] = find_faults(tmp_path, minimal(), [value])
    assert fault.startswith(f"--set {value[:20]}") and message in fault
    assert len(fault) < 1000


@pytest.mark.usefixtures("_fake_tables")
@pytest.mark.parametrize(
    ("changes", "line", "message"),
    [
        ({"data_seeds": "{count: 10000000}"}, 5, "`data_seeds` counts 10000000 seeds: at most 1000 in a study."),
        ({"shots": str(list(range(1, 1002)))}, 4, "at most 1000 items."),
        ({"tasks": str(["sentiment"] * 1001)}, 2, "`tasks` lists 1001: list at most 1000 in a study."),
        ({"models": str(["m"] * 1001)}, 5, "`models` lists 1001: list at most 1000 in a study."),
        (
            {"data_seeds": "{count: 1000}", "shots": str(list(range(1, 102)))},
            None,
            "models x tasks x methods x shots x seeds make 101000 trials; a study may have 100000.",
        ),
        ({"shots": "[1000000000000]"}, 4, "`shots.0` is 1000000000000: it should be less than or equal to 100000000."),
        ({"methods": f"[{{majority: {{as: {'a' * 300}}}}}]"}, 3, "`methods.0.majority.as` has 300 characters"),
        ({"name": "a" * 300}, 1, "it should have at most 100 characters."),
    ],
)
def test_too_many_trials_rows_or_letters_are_refused(
    tmp_path: Path, changes: dict[str, str], line: int | None, message: str
) -> None:
    faults = find_faults(tmp_path, minimal(**changes))
    assert any(where == line and message in what for where, what in faults), faults


@pytest.mark.usefixtures("_fake_tables")
def test_fit_seeds_of_methods_that_use_none_are_not_counted(tmp_path: Path) -> None:
    wide = {"data_seeds": "{count: 1000}", "fit_seeds": "{count: 1000}"}
    assert len(read(tmp_path, minimal(**wide)).fit_seeds) == 1000
    faults = find_faults(tmp_path, minimal(methods="[lora]", models="[m]", **wide))
    assert [what for _, what in faults if "make 1000000 trials" in what]


@pytest.mark.usefixtures("_fake_tables")
def test_of_many_faults_and_names_the_first_are_told_and_the_rest_counted(tmp_path: Path) -> None:
    unknown = "".join(f"unknown{i}: 1\n" for i in range(150))
    with pytest.raises(StudyError) as caught:
        read(tmp_path, minimal() + unknown)
    assert str(caught.value).splitlines()[-1] == "  and 50 more: mend these first."
    assert len(caught.value.faults) == 150
    [(_, fault)] = find_faults(tmp_path, minimal(**{"x" * 50_000: "1"}))
    assert len(fault) < 400
    entry = f"[{{{', '.join(f'm{i}: 1' for i in range(200))}}}]"
    assert any("m29 and 170 more: an entry is one" in what for _, what in find_faults(tmp_path, minimal(methods=entry)))


def _find_numbers(schema: Any, place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(schema, list):
        for item in schema:
            yield from _find_numbers(item, place)
    elif isinstance(schema, dict):
        if schema.get("type") in ("integer", "number"):
            yield place, schema
        for key, inner in schema.items():
            yield from _find_numbers(inner, f"{place}.{key}")


def test_every_number_of_a_study_has_a_largest_value() -> None:
    numbers = list(_find_numbers(study_schema()))
    unbounded = [place for place, schema in numbers if not {"maximum", "exclusiveMaximum"} & set(schema)]
    assert len(numbers) > 50 and unbounded == []


@pytest.mark.parametrize("setting", ["epochs: 1e21", "epochs: 1000000000000", "learning_rate: 1e300", "rank: 1000000"])
def test_settings_beyond_their_bounds_are_refused_with_their_line(tmp_path: Path, setting: str) -> None:
    faults = find_faults(tmp_path, minimal(models="[m]", methods=f"[lora: {{{setting}}}]"))
    assert [line for line, _ in faults] == [3]


_FUZZED = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
_WORDS = st.sampled_from([*minimal().replace(":", " ").split(), "as", "grid", "count", "lora", "in_context", "rank"])
_SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), _WORDS, st.just(10**400), st.just([])
)
_JUNK = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS | st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
_KEYS = [
    "name",
    "models",
    "tasks",
    "methods",
    "shots",
    "shots_per",
    "data_seeds",
    "fit_seeds",
    "evaluation",
    "baselines",
]
_KEYS += [
    "patterns",
    "tuning",
    "pool_rows",
    "precision",
    "max_tokens",
    "metrics",
    "equivalence",
    "within",
    "sampling",
    "other",
]


@_FUZZED
@given(junk=st.dictionaries(st.sampled_from(_KEYS), _JUNK, max_size=5))
def test_whatever_values_a_study_holds_it_is_read_or_refused_with_faults(tmp_path: Path, junk: dict[str, Any]) -> None:
    good = {"name": "demo", "tasks": ["sentiment"], "methods": ["majority"], "shots": [16]}
    _load_or_refuse(tmp_path, json.dumps({**good, **junk}).encode())


@_FUZZED
@given(place=st.integers(0, len(GOOD)), junk=st.text(max_size=12) | st.binary(max_size=12), cut=st.integers(0, 30))
def test_whatever_a_study_is_damaged_by_it_is_read_or_refused_with_faults(
    tmp_path: Path, place: int, junk: str | bytes, cut: int
) -> None:
    middle = junk if isinstance(junk, bytes) else junk.encode("utf-8", "surrogatepass")
    _load_or_refuse(tmp_path, GOOD[:place].encode() + middle + GOOD[place + cut :].encode())


def _load_or_refuse(folder: Path, content: bytes) -> None:
    path = folder / "study.yaml"
    path.write_bytes(content)
    try:
        study = load_study(path)
    except StudyError as error:
        assert error.faults and all(fault.message for fault in error.faults)
    else:
        path.write_text(study.to_yaml(), encoding="utf-8")
        assert load_study(path) == study
