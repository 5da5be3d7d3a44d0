"""Every link from a page of the project to another leads somewhere, to the heading that it names, too."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_PAGES = sorted([*_ROOT.glob("*.md"), *_ROOT.glob("docs/**/*.md")])
_BLOCK = re.compile(r"^(`{3,}|~{3,}).*?^\1\s*$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^#+ (?P<title>.+)$", re.MULTILINE)


def _prose(page: Path) -> str:
    return _BLOCK.sub("", page.read_text(encoding="utf-8"))


def _anchors(page: Path) -> set[str]:
    """The headings as GitHub names them; none of ours comes twice on a page."""
    titles = [found["title"].strip().lower() for found in _HEADING.finditer(_prose(page))]
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}


def _broken(page: Path, target: str) -> str | None:
    name, _, anchor = target.partition("#")
    other = (page.parent / name).resolve() if name else page
    if not other.exists():
        return f"{target}: there is no such file"
    if anchor and anchor not in _anchors(other):
        return f"{target}: there is no such heading"
    return None


@pytest.mark.parametrize("name", [str(page.relative_to(_ROOT)) for page in _PAGES])
def test_the_links_of_a_page_lead_somewhere(name: str) -> None:
    page = _ROOT / name
    targets = [found["target"] for found in _LINK.finditer(_prose(page))]
    broken = [_broken(page, target) for target in targets if not re.match(r"[a-z]+:", target)]
    assert not any(broken), [found for found in broken if found]
