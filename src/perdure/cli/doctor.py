"""`perdure doctor`: a line for each thing that was looked at, and what to do where something is wrong."""

from __future__ import annotations

import functools
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import click

from perdure.cli.access import dsn_option, named_app, run
from perdure.cli.output import output_option, print_json, print_styled
from perdure.connections import connect
from perdure.errors import DatabaseUnavailable, EmbeddedError, StoreError
from perdure.store.doctor import Finding, examine

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from perdure.app import App

__all__ = ["doctor"]

_FAILED: Final = 1
_STYLES: Final = {"ok": "green", "note": "yellow", "problem": "bold red"}


@click.command
@click.argument("target", metavar="[MODULE:APP]", required=False)
@dsn_option
@output_option
def doctor(target: str | None, dsn: str | None, *, output: str) -> None:
    """Find out what is wrong with the database, and what to do.

    Looks at the connection, the server's version and settings, the clock, poolers in between, notifications, the
    schema, rights and workers. Changes nothing. Exits with 1 when there is a problem.

    \b
    Examples:
      perdure doctor
      perdure doctor shop:app
      perdure doctor --dsn postgresql://worker@db.example/shop --output json
    """  # noqa: D301 - \b is click's mark for lines that are not to be rewrapped
    app = named_app(target, dsn)
    findings: list[Finding] = []
    show = findings.append if output == "json" else _print
    problems = run(_examine(app, show))
    if output == "json":
        print_json([asdict(finding) for finding in findings])
    if problems:
        click.get_current_context().exit(_FAILED)


async def _examine(app: App, show: Callable[[Finding], None]) -> int:
    """Show each finding as it comes; return how many are problems."""
    problems = 0
    async for finding in _findings(app):
        show(finding)
        problems += finding.level == "problem"
    return problems


async def _findings(app: App) -> AsyncGenerator[Finding]:
    where = next(row for row in app.config.describe() if row.key == "dsn")
    database = where.value or "the embedded PostgreSQL in ./.perdure"
    try:
        async with app:
            yield Finding("connection", "ok", f"{database} ({where.origin})")
            async for finding in examine(functools.partial(connect, app.dsn), app.names):
                yield finding
    except (StoreError, EmbeddedError) as error:
        advice = "is the server up, and the dsn right?" if isinstance(error, DatabaseUnavailable) else ""
        yield Finding("connection", "problem", f"{database} ({where.origin}): {error}", advice)


def _print(finding: Finding) -> None:
    advice = f" -> {finding.advice}" if finding.advice else ""
    print_styled((finding.level.ljust(8), _STYLES[finding.level]), (f"{finding.check}: {finding.text}{advice}", ""))
