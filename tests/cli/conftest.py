"""Runs the command line as a process, in a folder with an app in it."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from perdure.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_DEADLINE_SECONDS = 50

SHOP = """\
import asyncio
from dataclasses import dataclass

from perdure import App, Context, Failed, Suspended

app = App(execution={"shutdown_grace": 0.2}, scheduling={"scheduler_retry_count": 0})


@dataclass
class ImportOrders:
    shop: str
    pages: int = 3


@dataclass
class Progress:
    page: int = 0


@dataclass
class ShopClosed:
    since: str


@app.task("orders.import")
async def import_orders(ctx: Context[ImportOrders, Progress]) -> int | Failed[ShopClosed]:
    if ctx.metadata.shop == "closed":
        return Failed(ShopClosed("today"))
    while ctx.execution_metadata.page < ctx.metadata.pages:
        ctx.execution_metadata.page += 1
        await ctx.progress(ctx.execution_metadata.page, ctx.metadata.pages, f"page {ctx.execution_metadata.page}")
        await ctx.persist()
    return ctx.execution_metadata.page


@dataclass
class Approved:
    by: str


@dataclass
class Rejected:
    by: str


@app.task("orders.approve", events=Approved | Rejected)
async def approve(ctx: Context[None, Progress]) -> str | Suspended:
    if ctx.execution_metadata.page:
        return "approved"
    ctx.execution_metadata.page = 1
    return Suspended()


@app.task("orders.wait")
async def wait(ctx: Context[None, None]) -> None:
    print("waiting in process", __import__("os").getpid(), flush=True)
    await asyncio.Event().wait()


@app.task("orders.raise")
async def raises(ctx: Context[None, None]) -> None:
    raise ValueError("[red]no[/red] \\x1b[31morders\\n:smile:")
"""


@dataclass(frozen=True)
class Ended:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, read as JSON."""
        return json.loads(self.out)


@dataclass(frozen=True)
class CommandLine:
    """Calls `perdure …` in a folder, and waits for its end.

    Attributes:
        folder: The current folder of what is called.
        environment: Variables beside this process's, without its `PERDURE_…`.
    """

    folder: Path
    environment: dict[str, str]

    def __call__(self, *arguments: str, given: str | None = None, **environment: str) -> Ended:
        """Call it as a process; `given` is its standard input."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PERDURE_", "FORCE_COLOR"))}
        done = subprocess.run(
            [sys.executable, "-c", "from perdure.cli import main; main()", *arguments],
            input=given,
            stdin=subprocess.DEVNULL if given is None else None,
            capture_output=True,
            text=True,
            encoding="utf-8",
            cwd=self.folder,
            env=inherited | self.environment | environment,
            timeout=_DEADLINE_SECONDS,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    def inside(self, *arguments: str, given: str | None = None, **environment: str) -> Ended:
        """Call it in this process: the same in a fifth of the time, where being a process isn't what is tested."""
        unset: dict[str, str | None] = {key: None for key in os.environ if key.startswith("PERDURE_")}
        with contextlib.chdir(self.folder), _nothing_imported_from(self.folder):
            result = CliRunner().invoke(main, arguments, input=given, env=unset | self.environment | environment)
        return Ended(result.exit_code, result.stdout, result.stderr)


@contextlib.contextmanager
def _nothing_imported_from(folder: Path) -> Iterator[None]:
    """Forget afterwards what was imported from a folder."""
    path = list(sys.path)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = path
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None) or "").startswith(str(folder)):
                del sys.modules[name]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that holds `shop.py` with its `app`."""
    (tmp_path / "shop.py").write_text(SHOP, encoding="utf-8")
    return tmp_path


@pytest.fixture
def perdure(folder: Path) -> CommandLine:
    """The command line in a folder with an app; no database is there."""
    return CommandLine(folder, {"PERDURE_DSN": "postgresql://nobody@127.0.0.1:1/nowhere"})


@pytest.fixture
def perdure_db(folder: Path, migrated_database: str) -> CommandLine:
    """The command line in a folder with an app, on a migrated database."""
    return CommandLine(folder, {"PERDURE_DSN": migrated_database})
