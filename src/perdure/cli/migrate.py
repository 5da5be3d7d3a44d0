"""`perdure migrate`: bring the schema up to date, tell whether it is, or print the SQL that would."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from perdure.cli.access import dsn_option, named_app, run
from perdure.cli.errors import Misunderstood
from perdure.cli.output import print_line
from perdure.connections import connect
from perdure.store import migrate as migrations
from perdure.store.roles import roles_of

if TYPE_CHECKING:
    from perdure.app import App

__all__ = ["migrate"]


@click.command
@click.argument("target", metavar="[MODULE:APP]", required=False)
@dsn_option
@click.option("--check", is_flag=True, help="Change nothing; exit with 1 when migrations are missing.")
@click.option("--sql", is_flag=True, help="Print the SQL of all migrations; connects to nothing.")
@click.option("--roles", is_flag=True, help="Make roles for who migrates, works, starts and looks; with --sql, print.")
def migrate(target: str | None, dsn: str | None, *, check: bool, sql: bool, roles: bool) -> None:
    """Bring the database's schema up to date.

    May run any number of times, and at many places at once. On the embedded PostgreSQL it happens by itself.

    \b
    Examples:
      perdure migrate                        the database of PERDURE_DSN or perdure.toml
      perdure migrate shop:app               the database of `app` in shop.py
      perdure migrate --check                in a deployment: is there something to do?
      perdure migrate --sql > schema.sql     to be run by somebody else
      perdure migrate --roles                and make roles with no more rights than each needs
    """  # noqa: D301 - \b is click's mark for lines that are not to be rewrapped
    if check and sql:
        message = "--check and --sql: give one of them"
        raise Misunderstood(message)
    if check and roles:
        message = "--check and --roles: give one of them; perdure doctor tells what a user may do"
        raise Misunderstood(message)
    app = named_app(target, dsn)
    if sql:
        click.echo(migrations.script(app.names, with_roles=roles), nl=False)
    elif check:
        run(_check(app))
    else:
        run(_migrate(app, with_roles=roles))


async def _migrate(app: App, *, with_roles: bool) -> None:
    async with app:
        applied = await app.migrate(roles=with_roles)
    for migration in applied:
        print_line(f"applied {migration.number:03}_{migration.name}")
    if not applied:
        print_line(f"schema {app.names.schema_name!r} is up to date")
    if with_roles:
        print_line(f"its roles: {', '.join(roles_of(app.names))}; grant them to users that may log in")


async def _check(app: App) -> None:
    async with app, await connect(app.dsn) as connection:
        await migrations.check_schema(connection, app.names)
    print_line(f"schema {app.names.schema_name!r} is up to date")
