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
_FAULTS = re.compile(r"^Faults? (?P<faults>[\d, ]+)", re.MULTILINE)
_TESTS = re.compile(r"^- \*\*Tests:\*\* (?P<groups>.+)$", re.MULTILINE)
_WHOSE = re.compile(r"of (?P<faults>both|[\d, ]+): ")
_ATTACKED = re.compile(r"^- Attacked by faults? (?P<faults>[\d, to]+): (?P<files>(?:.+\n)+)", re.MULTILINE)
_GUARANTEES = 12


def _items(page: str) -> list[str]:
    """The page's list items, headings and paragraphs; the table of mutants is checked with their list."""
    return _ITEM.split(_MUTANTS.sub("", (_ROOT / page).read_text(encoding="utf-8")))


def _sections(page: str) -> list[str]:
    return re.split(r"^## ", (_ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]


def _guarantees() -> list[str]:
    return [section for section in _sections("docs/guarantees.md") if re.match(r"\d+\. ", section)]


def _files(text: str) -> set[str]:
    return {found["path"] for found in _FILE.finditer(text)}


def _numbers(text: str) -> set[int]:
    """Read `2 to 4, 8` as 2, 3, 4, 8."""
    ranges = re.findall(r"(\d+)(?: to (\d+))?", text)
    return {number for first, last in ranges for number in range(int(first), int(last or first) + 1)}


def _tried() -> dict[int, set[str]]:
    """Read off the runbook by which files each fault is tried: its section's; of several, `of 4: …; of both: …`."""
    tried: dict[int, set[str]] = {}
    for section in _sections("docs/reliability.md"):
        said, tests = _FAULTS.search(section), _TESTS.search(section)
        if said is None or tests is None:
            continue
        faults = _numbers(said["faults"])
        for group in tests["groups"].split("; "):
            whose = _WHOSE.match(group)
            assert (whose is not None) == (len(faults) > 1), group
            of = faults if whose is None or whose["faults"] == "both" else _numbers(whose["faults"])
            assert of <= faults, group
            for fault in of:
                tried.setdefault(fault, set()).update(_files(group))
    return tried


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
    guarantees = _guarantees()
    assert len(guarantees) == _GUARANTEES
    for section in guarantees:
        assert _TEST.search(section), section
        assert _ATTACKED.search(section), section
        assert "`tests/faults/" in section, section


@pytest.mark.parametrize("section", _guarantees(), ids=lambda section: section.splitlines()[0])
def test_the_faults_that_attack_a_guarantee_are_those_of_the_files_that_are_named(section: str) -> None:
    attacked = _ATTACKED.search(section)
    assert attacked
    tried, faults, files = _tried(), _numbers(attacked["faults"]), _files(attacked["files"])
    untried = [fault for fault in faults if not files & tried[fault]]
    of_others = [path for path in files if not any(path in tried[fault] for fault in faults)]
    assert (untried, of_others) == ([], []), "as the runbook's `Tests:` have it"


def test_each_section_of_the_runbook_says_what_is_seen_what_it_means_and_what_to_do() -> None:
    sections = _sections("docs/reliability.md")
    last = max(number for number, section in enumerate(sections) if "- **Do:**" in section)  # what follows is of tests
    for section in sections[: last + 1]:
        for bullet in ("See", "Means", "Do", "Tests"):
            assert section.count(f"- **{bullet}:**") == 1, (bullet, section)
    assert set(_tried()) == set(range(1, 22))
