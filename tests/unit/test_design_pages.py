"""What pages say is tested is tested: each test that one names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_PAGES = {str(path.relative_to(_ROOT)): path for path in sorted(_ROOT.glob("docs/**/*.md"))}


@pytest.mark.parametrize("name", _PAGES)
def test_a_page_names_tests_that_there_are(name: str) -> None:
    files = list((_ROOT / "tests").rglob("test_*.py"))
    there = {path.name for path in files} | {str(path.relative_to(_ROOT)) for path in files}
    for path in files:
        there.update(re.findall(r"def (test_\w+)", path.read_text("utf-8")))
    named = re.findall(r"`((?:tests/[\w/]+/)?test_[\w.]+|tests/[\w/]+\.py)`", _PAGES[name].read_text("utf-8"))
    assert [test for test in named if test not in there] == []
