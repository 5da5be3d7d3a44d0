"""The trials as a table, in Markdown; between two markers of a page."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from tests.mutants.trial import Fate

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.mutants.trial import Trial

__all__ = ["put", "table"]

_BEGIN, _END = "<!-- mutants: begin -->\n", "<!-- mutants: end -->\n"


def table(trials: Sequence[Trial]) -> str:
    """Return what has become of each, and in all."""
    counts = Counter(trial.fate for trial in trials)
    told = ", ".join(f"{count} {fate.value}" for fate in Fate if (count := counts[fate]))
    lines = [f"{len(trials)} mutants: {told}.", ""]
    lines += ["| the mutant | what it breaks | | by the test | s |", "|---|---|---|---|---|"]
    for trial in trials:
        cells = (trial.mutant.name, trial.mutant.breaks, trial.fate.value, _test(trial), f"{trial.seconds:.0f}")
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _test(trial: Trial) -> str:
    """Name the test's function alone: the page is wide enough as it is."""
    if trial.fate is not Fate.CAUGHT or "::" not in trial.told:
        return "; ".join(trial.told.splitlines()[-1:])
    return f"`{trial.told.partition('::')[2].partition('[')[0]}`"


def put(page: Path, text: str) -> None:
    """Replace what is between the page's markers.

    Raises:
        ValueError: It has none.
    """
    old = page.read_text(encoding="utf-8")
    before, begun, rest = old.partition(_BEGIN)
    _, ended, after = rest.partition(_END)
    if not (begun and ended):
        message = f"{page} has no lines {_BEGIN!r} and {_END!r}"
        raise ValueError(message)
    page.write_text(f"{before}{_BEGIN}\n{text}\n\n{_END}{after}", encoding="utf-8")
