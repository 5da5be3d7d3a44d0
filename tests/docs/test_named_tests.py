"""What the pages on guarantees and faults say of tests: each file and each test that they name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_PAGES = ("docs/guarantees.md", "docs/reliability.md")
_FILE = re.compile(r"`(?P<path>[\w./]+\.py)`")
_TEST = re.compile(r"`(?P<name>test_\w+)`")
_ITEM = re.compile(r"^(?=- |\d+\. |#|$)", re.MULTILINE)
_MUTANTS = re.compile(r"<!-- mutants: begin -->.*<!-- mutants: end -->", re.DOTALL)
_GUARANTEES = 12


def _items(page: str) -> list[str]:
    """The page's list items, headings and paragraphs; the table of mutants is checked with their list."""
    return _ITEM.split(_MUTANTS.sub("", (_ROOT / page).read_text(encoding="utf-8")))


@pytest.mark.parametrize("page", _PAGES)
def test_each_file_of_tests_is_there(page: str) -> None:
    named = [found["path"] for item in _items(page) for found in _FILE.finditer(item)]
    assert named
    missing = [path for path in named if not (path.startswith("tests/") and (_ROOT / path).is_file())]
    assert not missing


@pytest.mark.parametrize("page", _PAGES)
def test_each_test_is_in_a_file_that_is_named_with_it(page: str) -> None:
    missing: list[str] = []
    for item in _items(page):
        files = [_ROOT / found["path"] for found in _FILE.finditer(item)]
        code = "\n".join(file.read_text(encoding="utf-8") for file in files)
        names = [found["name"] for found in _TEST.finditer(item)]
        missing += [name for name in names if not re.search(rf"def {name}\(", code)]
    assert not missing


def test_each_guarantee_has_tests_that_hold_it_and_faults_that_attack_it() -> None:
    sections = re.split(r"^## ", (_ROOT / "docs/guarantees.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    guarantees = [section for section in sections if re.match(r"\d+\. ", section)]
    assert len(guarantees) == _GUARANTEES
    for section in guarantees:
        assert _TEST.search(section), section
        assert re.search(r"^- Attacked by faults? \d", section, re.MULTILINE), section
        assert "`tests/faults/" in section, section


def test_each_section_of_the_runbook_says_what_is_seen_what_it_means_and_what_to_do() -> None:
    sections = re.split(r"^## ", (_ROOT / "docs/reliability.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    last = max(number for number, section in enumerate(sections) if "- **Do:**" in section)  # what follows is of tests
    faults: set[int] = set()
    for section in sections[: last + 1]:
        for bullet in ("See", "Means", "Do", "Tests"):
            assert section.count(f"- **{bullet}:**") == 1, (bullet, section)
        said = re.search(r"^Faults? ([\d, ]+)", section, re.MULTILINE)
        faults |= {int(number) for number in said[1].replace(",", " ").split()} if said else set()
    assert faults == set(range(1, 22))
