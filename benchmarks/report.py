"""Figures as tables, in Markdown, which reads well on a terminal too.

    python -m benchmarks.report FILE.jsonl [--into docs/performance.md]

Needs nothing but the file: with `--into`, the tables replace what is between the two markers in a page.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.contenders import OWN
from benchmarks.rows import COMPARED, OURS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.rows import Row

__all__ = ["Results", "read", "tables"]

_MARKERS = "<!-- figures: begin -->\n", "<!-- figures: end -->\n"
_NOTHING = "-"


@dataclass(frozen=True, slots=True)
class Results:
    """A run.

    Attributes:
        head: When, on what, with what.
        errors: What has failed, as sentences.
        rounds: A figure by work, contender and name, in the order of the rounds.
    """

    head: dict[str, Any]
    rounds: dict[tuple[str, str, str], list[float]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    def figures(self, row: Row, contender: str) -> list[float]:
        """Return what a contender did in a row's work, round by round; nothing where it took no part."""
        return self.rounds.get((row.work, contender, row.figure), [])

    def peers(self) -> list[str]:
        """Return the peers that took part."""
        return [side for side in self.head["sides"] if side not in OWN]


def read(path: Path) -> Results:
    """Read a run's lines."""
    with path.open(encoding="utf-8") as file:
        results = Results(json.loads(next(file)))
        for line in file:
            one = json.loads(line)
            if "error" in one:
                results.errors.append(f"{one['work']}, {one['contender']}, round {one['round']}: {one['error']}")
                continue
            for name, value in one["figures"].items():
                results.rounds.setdefault((one["work"], one["contender"], name), []).append(value)
    return results


def tables(results: Results) -> str:
    """Return all that can be told of a run."""
    errors = "\n".join(f"- failed: {error}" for error in results.errors)
    parts = [headline(results), errors, "\n".join(_compared(results)), "\n".join(_ours(results))]
    return "\n\n".join(part for part in parts if part)


def headline(results: Results) -> str:
    """Say what was measured on what."""
    head, machine, settings = results.head, results.head["machine"], results.head["settings"]
    versions = {name: version for side in head["sides"].values() for name, version in side["versions"].items()}
    lines = [
        (
            f"{head['at']}, rounds: {settings['rounds']}, sizes: {settings['scale']:g} of the full ones, "
            f"{settings['history_scale']:g} of the long history; PostgreSQL {head['postgresql']}, "
            f"Python {head['python']}, {settings['loop']}; "
            f"{machine['cores']} cores ({machine['processor']}), {machine['memory_gib']} GiB, {machine['system']}, "
            f"data on {machine['data_on']}, load at the beginning {machine['load']}."
        ),
        "",
        "Versions: " + ", ".join(f"{name} {version}" for name, version in sorted(versions.items())) + ".",
        "",
        "PostgreSQL's settings: "
        + ", ".join(f"`{key} = {value}`" for key, value in head["postgresql_settings"].items())
        + ".",
        "",
        *(f"- {name}: {side['about']}{_other_python(side, head)}" for name, side in head["sides"].items()),
        *(f"- {name} took no part: {reason}" for name, reason in head["left_out"].items()),
    ]
    return "\n".join(lines)


def _other_python(side: dict[str, Any], head: dict[str, Any]) -> str:
    return "" if side["python"] == head["python"] else f"; on Python {side['python']}"


def _compared(results: Results) -> Iterator[str]:
    """What others do, too: medians; ratios are the medians of the rounds' ratios, with the least and the greatest."""
    peers = results.peers()
    rows = [row for row in COMPARED if results.figures(row, row.contender)]
    if not rows:
        return
    columns = ["", "perdure", "to bare psycopg", "to the best peer", "bare psycopg", *peers]
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"
    for row in rows:
        ours = results.figures(row, row.contender)
        theirs = {name: figures for name in peers if (figures := results.figures(row, name))}
        cells = [
            row.title,
            _number(ours, row),
            _ratio(ours, results.figures(row, row.bare)),
            _best(ours, theirs, row),
            _number(results.figures(row, row.bare), row),
            *(_number(theirs.get(name, []), row) for name in peers),
        ]
        yield f"| {' | '.join(cells)} |"


def _ours(results: Results) -> Iterator[str]:
    """What perdure alone is measured at."""
    rows = [row for row in OURS if results.figures(row, row.contender)]
    if not rows:
        return
    yield "| perdure alone | median | least to greatest |"
    yield "|---|---|---|"
    for row in rows:
        figures = results.figures(row, row.contender)
        spread = f"{min(figures):,.{row.digits}f} to {max(figures):,.{row.digits}f}"
        yield f"| {row.title} | {_number(figures, row)} | {spread} |"


def _number(figures: list[float], row: Row) -> str:
    return f"{median(figures):,.{row.digits}f}" if figures else _NOTHING


def _ratio(ours: list[float], theirs: list[float]) -> str:
    ratios = [one / other for one, other in zip(ours, theirs, strict=False) if other]
    if not ratios:
        return _NOTHING
    return f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def _best(ours: list[float], theirs: dict[str, list[float]], row: Row) -> str:
    if not theirs:
        return _NOTHING
    best = (min if row.less_is_better else max)(theirs, key=lambda name: median(theirs[name]))
    return f"{_ratio(ours, theirs[best])}, {best}"


def _images(folder: Path) -> list[str]:
    """Return what shows the plots that `benchmarks.plots` has drawn beside a page."""
    return [
        f"![{path.stem}](images/{path.name})"
        for path in sorted(folder.glob("images/*.png"))
        if path.with_suffix(".svg").exists()
    ]


def _replace(page: str, text: str) -> str:
    """Return the page with other figures in it.

    Raises:
        ValueError: It has no markers.
    """
    begin, end = _MARKERS
    before, _, rest = page.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        message = f"the page has no lines {begin!r} and {end!r}"
        raise ValueError(message)
    return f"{before}{begin}\n{text}\n\n{end}{after}"


def main() -> None:
    """Print the tables, or put them into a page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("results", type=Path, metavar="FILE.jsonl")
    parser.add_argument("--into", type=Path, metavar="PAGE.md", help="a page to put the tables into")
    options = parser.parse_args()
    text = tables(read(options.results))
    if options.into:
        page = options.into.read_text(encoding="utf-8")
        parts = [f"From `{options.results}`.", text, *_images(options.into.parent)]
        options.into.write_text(_replace(page, "\n\n".join(parts)), encoding="utf-8")
    else:
        sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    main()
