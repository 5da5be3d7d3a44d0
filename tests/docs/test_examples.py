"""Every example in the README and in docs/ does what its page says.

How a page says what is to be done with its examples: tests/support/examples.py.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.examples import read_page

if TYPE_CHECKING:
    from tests.support.processes import Processes

_ROOT = Path(__file__).parents[2]
_PAGES = {str(path.relative_to(_ROOT)): path for path in [_ROOT / "README.md", *sorted(_ROOT.glob("docs/**/*.md"))]}


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", [name for name, path in _PAGES.items() if read_page(path).has_examples])
async def test_the_examples_of_a_page_run(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    processes: Processes,
    request: pytest.FixtureRequest,
) -> None:
    page = read_page(_PAGES[name])
    for variable in [key for key in os.environ if key.startswith("PERDURE_")]:
        monkeypatch.delenv(variable)
    if page.database == "empty":
        monkeypatch.setenv("PERDURE_DSN", request.getfixturevalue("database"))
    # The commands `perdure` and `python` of the environment that runs this.
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        await page.run(tmp_path, dict(os.environ), processes)
    finally:
        _forget_modules_of(tmp_path)
        if (tmp_path / ".perdure").exists():
            assert await processes.perdure("db", "stop", cwd=tmp_path).end() == 0


def _forget_modules_of(folder: Path) -> None:
    """Pages have files of the same names."""
    for name, module in list(sys.modules.items()):
        if (file := getattr(module, "__file__", None)) and Path(file).is_relative_to(folder):
            del sys.modules[name]
