"""How a command gets at the database: by the app of `MODULE:APP`, by --dsn, or by what the configuration says.

Looking at jobs needs no code: their payloads are JSON. So an app that is named lends its settings alone, and only
`start` uses its tasks.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

import click

from perdure.app import App
from perdure.cli.errors import Misunderstood
from perdure.cli.target import load_app

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    T = TypeVar("T")
    F = TypeVar("F", bound=Callable[..., Any])

__all__ = ["app_option", "codeless", "dsn_option", "named_app", "run"]

DSN_HELP = "The database; otherwise PERDURE_DSN, perdure.toml, or the embedded PostgreSQL in ./.perdure."


def dsn_option(command: F) -> F:
    """Add `--dsn`."""
    return click.option("--dsn", metavar="URL", help=DSN_HELP)(command)


def app_option(command: F) -> F:
    """Add `--app` and `--dsn`, of which one may be given."""
    option = click.option("--app", "target", metavar="MODULE:APP", help="The app whose database it is.")
    return option(dsn_option(command))


def named_app(target: str | None, dsn: str | None) -> App:
    """Return the app of the target; without one, an app without tasks.

    Raises:
        Misunderstood: There are both, or the target isn't an app.
        Failure: The target's module raised.
        ConfigError: The settings aren't allowed.
    """
    if target is None:
        return App(dsn)
    if dsn is not None:
        message = f"--dsn and {target}: give one of them, since an app knows its database"
        raise Misunderstood(message)
    return load_app(target)


def codeless(target: str | None, dsn: str | None) -> App:
    """Return an app with the settings of the named one, and no tasks: payloads are then plain JSON values."""
    app = named_app(target, dsn)
    if not app.tasks:
        return app
    config = app.config
    return App(config.dsn, persistence=config.persistence, scheduling=config.scheduling, execution=config.execution)


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine to its end."""
    return asyncio.run(main)
