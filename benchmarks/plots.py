"""Draw a run's figures: PNG and SVG, the same for the same file.

    .venv-peers/bin/python -m benchmarks.plots FILE.jsonl [--into docs/images]

Needs matplotlib, which is in the peers' environment, and nothing else.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib import pyplot as plt

from benchmarks.report import read

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from benchmarks.report import Results

_OURS, _BARE, _PEERS = "#1b7f5c", "#8a8f98", "#4c78a8"
_NAMES = {
    "perdure": "perdure",
    "perdure asyncio": "perdure, plain asyncio",
    "perdure 1000": "perdure, concurrency 1,000",
    "perdure step": "perdure, ctx.step()",
    "bare": "bare psycopg",
    "tables": "psycopg, perdure's tables",
}
_WINDOWS = 6
_WIDTH, _HEIGHT, _TOP = 9.0, 0.34, 1.1


@dataclass(frozen=True, slots=True)
class _Plot:
    """Bars, one panel beside the other; each is a figure of a work."""

    name: str
    title: str
    panels: tuple[tuple[str, str, str], ...]
    logarithmic: bool = False


_PLOTS = (
    _Plot(
        "drain",
        "Emptying a full queue, jobs a second",
        (("1 worker", "drain", "jobs_per_second"), ("2 workers", "drain2", "jobs_per_second")),
    ),
    _Plot(
        "start",
        "Starting jobs, jobs a second",
        (("one by one", "start", "jobs_per_second"), ("many", "start_many", "jobs_per_second")),
    ),
    _Plot(
        "latency",
        "From start to handler, milliseconds",
        (("idle worker, p50", "latency", "p50_ms"), ("idle worker, p99", "latency", "p99_ms")),
        logarithmic=True,
    ),
    _Plot(
        "load",
        "From start to handler at half load (each at half of what it drains), milliseconds",
        (("p50", "load", "p50_ms"), ("p99", "load", "p99_ms")),
        logarithmic=True,
    ),
    _Plot(
        "cost",
        "CPU of a no-op job in the drain, microseconds",
        (("worker", "drain", "worker_us"), ("server", "drain", "server_us")),
        logarithmic=True,
    ),
    _Plot(
        "checkpoints",
        "Checkpoints a second, 50 jobs at once",
        (("checkpoint", "checkpoints", "per_second"), ("with a row in one transaction", "transactions", "per_second")),
    ),
)


def draw(results: Results, folder: Path) -> list[Path]:
    """Draw all that the run has figures for; return what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    mpl.use("Agg")
    mpl.rcParams.update({"svg.hashsalt": "perdure", "svg.fonttype": "none", "font.size": 9})
    written: list[Path] = []
    for plot in _PLOTS:
        panels = [(title, _medians(results, work, figure)) for title, work, figure in plot.panels]
        if panels := [(title, bars) for title, bars in panels if bars]:
            written += _draw_bars(plot, panels, folder)
    if any(work == "pinned" for work, _, _ in results.rounds):
        written += _draw_pinned(results, folder)
    return written


def _medians(results: Results, work: str, figure: str) -> dict[str, float]:
    return {one: median(runs) for (done, one, name), runs in results.rounds.items() if (done, name) == (work, figure)}


def _draw_bars(plot: _Plot, panels: list[tuple[str, dict[str, float]]], folder: Path) -> list[Path]:
    most = max(len(bars) for _, bars in panels)
    size = _WIDTH, _TOP + _HEIGHT * most
    figure, axes = plt.subplots(1, len(panels), figsize=size, squeeze=False, layout="constrained")
    for axis, (title, bars) in zip(axes[0], panels, strict=True):
        order = sorted(bars, key=_place, reverse=True)
        drawn = axis.barh([_NAMES.get(name, name) for name in order], [bars[name] for name in order], height=0.7)
        for bar, name in zip(drawn, order, strict=True):
            bar.set_color(_colour(name))
        axis.bar_label(drawn, labels=[f" {bars[name]:,.{_digits(bars[name])}f}" for name in order])
        axis.set_title(title, loc="left")
        axis.set_ylim(len(order) - most - 0.5, len(order) - 0.5)
        _tidy(axis)
        if plot.logarithmic:
            axis.set_xscale("log")
        axis.margins(x=0.2)
    figure.suptitle(plot.title + ("; logarithmic" if plot.logarithmic else ""))
    return _save(figure, folder / plot.name)


def _draw_pinned(results: Results, folder: Path) -> list[Path]:
    figure, axis = plt.subplots(figsize=(_WIDTH, 4.0), layout="constrained")
    seconds = [10 * number for number in range(1, _WINDOWS + 1)]
    for name in sorted({one for work, one, _ in results.rounds if work == "pinned"}, key=_place):
        rates = [
            median(results.rounds["pinned", name, f"window_{number}_per_second"]) for number in range(1, _WINDOWS + 1)
        ]
        style = "-" if _colour(name) == _OURS else "--"
        (line,) = axis.plot(seconds, rates, style, marker="o", label=_NAMES.get(name, name))
        if _colour(name) != _PEERS:
            line.set_color(_colour(name))
    axis.set(xlabel="seconds", ylabel="jobs a second", ylim=(0, None))
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
    figure.suptitle("Throughput while another connection holds a snapshot")
    return _save(figure, folder / "pinned")


def _place(name: str) -> tuple[int, str]:
    return (0 if _colour(name) == _OURS else 1 if _colour(name) == _BARE else 2, name)


def _colour(name: str) -> str:
    if name.startswith("perdure"):
        return _OURS
    return _BARE if name in _NAMES else _PEERS


def _digits(value: float) -> int:
    return 2 if value < 10 else 1 if value < 100 else 0  # noqa: PLR2004 - three figures are enough


def _tidy(axis: Axes) -> None:
    axis.spines[["top", "right", "bottom"]].set_visible(False)
    axis.tick_params(bottom=False, labelbottom=False, which="both")


def _save(figure: plt.Figure, path: Path) -> list[Path]:
    files = [path.with_suffix(".png"), path.with_suffix(".svg")]
    figure.savefig(files[0], dpi=110, metadata={"Software": None})
    figure.savefig(files[1], metadata={"Date": None})
    plt.close(figure)
    return files


def main() -> None:
    """Draw."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plots", description=__doc__)
    parser.add_argument("results", type=Path, metavar="FILE.jsonl")
    parser.add_argument("--into", type=Path, default=Path("docs/images"), help="a folder (%(default)s)")
    options = parser.parse_args()
    for path in draw(read(options.results), options.into):
        print(path)


if __name__ == "__main__":
    main()
