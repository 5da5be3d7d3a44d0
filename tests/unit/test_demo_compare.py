"""The demo's verdict is real: a row that is missing, doubled, changed or foreign makes it `NO`, and the exit code 1."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

import perdure.cli.demo
from perdure.demo.compare import compare, compare_counts
from perdure.demo.events import Report
from perdure.demo.faults import Kind, plan_faults
from perdure.demo.index import Definition, Import, Index, Module, Name, index_modules, module_paths

if TYPE_CHECKING:
    from pathlib import Path

    from perdure.demo.compare import Difference

SOURCE = '''\
"""A module."""
import os.path, sys as system
from .. import near
from json import (loads, dumps)

class Shop:
    async def sell(self, goods):
        def weigh(): return goods.weight + goods.weight
        return weigh()
'''


@pytest.fixture
def library(tmp_path: Path) -> Path:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").write_text(SOURCE, encoding="utf-8")
    (tmp_path / "broken.py").write_text("def (:\n", encoding="utf-8")
    (tmp_path / "empty.py").touch()
    (tmp_path / "notes.txt").touch()
    for left_out in ("site-packages", "test", "shop/__pycache__"):
        (tmp_path / left_out).mkdir()
        (tmp_path / left_out / "other.py").touch()
    return tmp_path


@pytest.fixture
def expected(library: Path) -> Index:
    return index_modules(library, module_paths(library))


def test_the_index_of_a_library(expected: Index) -> None:
    assert expected.modules == [
        Module("broken.py", 1, is_readable=False),
        Module("empty.py", 0, is_readable=True),
        Module("shop/__init__.py", 9, is_readable=True),
    ]
    path = "shop/__init__.py"
    assert sorted(expected.definitions) == [
        Definition(path, 6, "class", "Shop"),
        Definition(path, 7, "function", "sell"),
        Definition(path, 8, "function", "weigh"),
    ]
    assert sorted(expected.imports) == [
        Import(path, 2, "os.path"),
        Import(path, 2, "sys"),
        Import(path, 3, "..:near"),
        Import(path, 4, "json:dumps"),
        Import(path, 4, "json:loads"),
    ]
    assert sorted(expected.names) == [Name(path, "goods", 2), Name(path, "weigh", 1), Name(path, "weight", 2)]


def test_pages_make_the_same_index_as_one_go(library: Path, expected: Index) -> None:
    found = Index()
    for path in reversed(module_paths(library)):
        found.extend(index_modules(library, [path]))
    assert compare(found, expected) == []
    assert compare_counts(found.counts(), expected) == []


def said(differences: list[Difference]) -> list[str]:
    return [f"{difference.table}: {difference.what}" for difference in differences]


def test_a_missing_row_is_noticed(library: Path, expected: Index) -> None:
    found = index_modules(library, module_paths(library))
    lost = found.imports.pop()
    assert said(compare(found, expected)) == ["imports: 1 row is missing"]
    assert lost.imported in str(compare(found, expected)[0])


def test_a_doubled_row_is_noticed(library: Path, expected: Index) -> None:
    found = index_modules(library, module_paths(library))
    found.names += found.names[:2]
    assert said(compare(found, expected)) == ["names: 2 rows are there once too often"]


def test_a_changed_row_is_noticed(library: Path, expected: Index) -> None:
    found = index_modules(library, module_paths(library))
    found.names[0] = found.names[0]._replace(uses=99)
    assert said(compare(found, expected)) == ["names: 1 row is missing", "names: 1 row is there that should not be"]


def test_a_row_of_no_module_is_noticed(library: Path, expected: Index) -> None:
    found = index_modules(library, module_paths(library))
    found.modules.append(Module("foreign.py", 1, is_readable=True))
    assert said(compare(found, expected)) == ["modules: 1 row is there that should not be"]


def test_a_page_counted_twice_is_noticed(expected: Index) -> None:
    counts = expected.counts() | {"definitions": 6}
    assert said(compare_counts(counts, expected)) == [
        "definitions: by its checkpoint the job has written 6 rows, not 3"
    ]
    assert len(compare_counts({}, expected)) == 4


def test_all_kinds_of_faults_come_equally_often_and_before_the_end() -> None:
    for seed in range(50):
        plan = plan_faults(random.Random(seed), 7, 700)
        assert [fault.number for fault in plan] == [1, 2, 3, 4, 5, 6, 7]
        assert set(Counter(fault.kind for fault in plan).values()) == {2, 3}
        assert {fault.kind for fault in plan[:3]} == set(Kind)
        points = [fault.after for fault in plan]
        assert points == sorted(points)
        assert points[0] >= 0
        assert points[-1] < 700 * 0.86
    assert plan_faults(random.Random(1), 0, 700) == []
    assert plan_faults(random.Random(1), 9, 700) == plan_faults(random.Random(1), 9, 700)


@pytest.mark.parametrize(("is_changed", "word", "code"), [(False, "yes", 0), (True, "NO", 1)])
def test_the_verdict_and_the_exit_code(
    monkeypatch: pytest.MonkeyPatch,
    library: Path,
    expected: Index,
    is_changed: bool,  # noqa: FBT001
    word: str,
    code: int,
) -> None:
    found = index_modules(library, module_paths(library))
    if is_changed:
        found.definitions *= 2

    async def run_demo(**_options: object) -> Report:
        return Report(
            counts=expected.counts(),
            attempts=1,
            job_seconds=1,
            plain_seconds=1,
            survived=[],
            differences=compare(found, expected),
        )

    monkeypatch.setattr(perdure.cli.demo, "run_demo", run_demo)
    result = CliRunner().invoke(perdure.cli.demo.demo, ["--plain"])
    assert result.exit_code == code, result.output
    assert result.output.splitlines()[-1] == f"exactly once: {word}"
    assert ("definitions: 3 rows are there once too often" in result.output) == is_changed
