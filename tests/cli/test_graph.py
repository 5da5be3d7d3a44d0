"""`perdure graph`: Mermaid always, SVG and PNG where Graphviz is; what is wrong is said in a line."""

from __future__ import annotations

import os
import shutil
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import CommandLine, Ended

MACHINES = """\
from dataclasses import dataclass
from perdure import App, Completed, Context, Failed, MachineState, StateMachine, Suspended, on

app = App()

@dataclass
class Placed: ...
@dataclass
class AwaitingPayment: ...
@dataclass
class Paid: ...

States = Placed | AwaitingPayment | Paid
Ctx = Context[int, MachineState[States]]

@app.task("orders.fulfil")
class Fulfil(StateMachine[int, States, int, str]):
    initial = Placed()

    @on(Placed)
    async def place(self, state: Placed, ctx: Ctx) -> Suspended[AwaitingPayment]: ...
    @on(AwaitingPayment)
    async def payment(self, state: AwaitingPayment, ctx: Ctx) -> Paid | Suspended | Failed[str]: ...
    @on(Paid)
    async def paid(self, state: Paid, ctx: Ctx) -> Completed[int]: ...

@app.task("orders.import")
async def import_orders(ctx: Context[None, None]) -> None: ...
"""
MERMAID = """\
---
title: orders.fulfil
---
stateDiagram-v2
    [*] --> Placed
    Placed --> AwaitingPayment : suspended
    AwaitingPayment --> Paid
    AwaitingPayment --> AwaitingPayment : suspended
    AwaitingPayment --> [*] : failed str
    Paid --> [*] : completed int
"""

needs_graphviz = pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz isn't installed here")


@pytest.fixture(autouse=True)
def machines(folder: Path) -> None:
    (folder / "machines.py").write_text(MACHINES, encoding="utf-8")


def failed(ended: Ended, code: int) -> str:
    assert (ended.code, ended.out) == (code, "")
    assert ended.err.startswith("Error: ")
    assert ended.err.count("\n") == 1, ended.err
    return ended.err.removeprefix("Error: ").rstrip("\n")


def test_mermaid_comes_on_standard_output_without_a_database(perdure: CommandLine) -> None:
    ended = perdure("graph", "machines:app", "orders.fulfil")
    assert (ended.code, ended.out, ended.err) == (0, MERMAID, "")


def test_the_app_may_be_named_by_an_option_and_its_only_machine_needs_no_name(perdure: CommandLine) -> None:
    assert perdure.inside("graph", "--app", "machines:app", "orders.fulfil").out == MERMAID
    assert perdure.inside("graph", "machines:app").out == MERMAID


def test_it_is_written_into_a_file(perdure: CommandLine, folder: Path) -> None:
    ended = perdure.inside("graph", "machines:app", "orders.fulfil", "--output", "fulfil.mmd")
    assert (ended.code, ended.out) == (0, "")
    assert (folder / "fulfil.mmd").read_text("utf-8") == MERMAID


@needs_graphviz
def test_graphviz_draws_svg_and_png(perdure: CommandLine, folder: Path) -> None:
    assert perdure("graph", "machines:app", "orders.fulfil", "--output", "fulfil.svg").code == 0
    svg = ET.parse(folder / "fulfil.svg").getroot()  # noqa: S314 - our own
    texts = {(text.text or "").strip() for text in svg.iter("{http://www.w3.org/2000/svg}text")}
    assert {"orders.fulfil", "Placed", "AwaitingPayment", "Paid", "suspended", "failed str", "completed int"} <= texts
    assert perdure("graph", "machines:app", "orders.fulfil", "--format", "png", "--output", "fulfil").code == 0
    assert (folder / "fulfil").read_bytes().startswith(b"\x89PNG\r\n")
    assert perdure("graph", "machines:app", "orders.fulfil", "--format", "svg").out.startswith("<?xml")


def test_without_graphviz_it_says_how_to_get_it_and_that_mermaid_works(perdure: CommandLine, folder: Path) -> None:
    ended = perdure.inside("graph", "machines:app", "orders.fulfil", "--output", "fulfil.svg", PATH=str(folder))
    line = failed(ended, 1)
    assert line.startswith("SVG is drawn by Graphviz's `dot`, which isn't there. Install Graphviz (apt-get install ")
    assert line.endswith("--format mermaid always works")
    assert not (folder / "fulfil.svg").exists()
    assert perdure.inside("graph", "machines:app", "orders.fulfil", PATH=str(folder)).out == MERMAID


def test_a_graphviz_that_fails_is_quoted(perdure: CommandLine, folder: Path) -> None:
    fake = folder / "dot"
    fake.write_text("#!/bin/sh\ncat > /dev/null\necho 'no such plugin' >&2\nexit 3\n", encoding="utf-8")
    fake.chmod(0o755)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    line = failed(perdure.inside("graph", "machines:app", "orders.fulfil", "--format", "png", PATH=path), 1)
    assert "`dot`, which failed: no such plugin" in line


def test_what_it_cannot_draw_is_named(perdure: CommandLine) -> None:
    assert failed(perdure.inside("graph", "machines:app", "orders.fulfill"), 2) == (
        "the app has no task 'orders.fulfill'; did you mean 'orders.fulfil'?"
    )
    assert failed(perdure.inside("graph", "machines:app", "zzz"), 2) == (
        "the app has no task 'zzz'; the app's machines: orders.fulfil"
    )
    assert failed(perdure.inside("graph", "machines:app", "orders.import"), 2) == (
        "the task 'orders.import' is no StateMachine, so it has no graph; the app's machines: orders.fulfil"
    )
    assert failed(perdure.inside("graph", "shop:app"), 2) == "which task? the app has no StateMachine"
    assert failed(perdure.inside("graph", "orders.fulfil"), 2) == (
        "which app has the task 'orders.fulfil'? perdure graph shop:app orders.fulfil, for `app` in shop.py"
    )
    assert "one app and one task" in failed(perdure.inside("graph", "a:b", "c", "d"), 2)


def test_a_file_that_cannot_be_written_or_understood(perdure: CommandLine) -> None:
    assert failed(perdure.inside("graph", "machines:app", "orders.fulfil", "--output", "it.pdf"), 2) == (
        "it.pdf: its end doesn't tell what to write; give --format mermaid, svg or png"
    )
    line = failed(perdure.inside("graph", "machines:app", "orders.fulfil", "--output", "no/where/it.mmd"), 1)
    assert line == "no/where/it.mmd can't be written: No such file or directory"
