"""The roles of a schema, and what a user may do in it. Who gets which rights stands in `migrations/roles.sql`."""

from __future__ import annotations

import hashlib
import re
from importlib import resources
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from perdure.errors import MigrationFailed, MissingRight
from perdure.store import calls
from perdure.store.calls import Call
from perdure.store.sql import LONGEST_IDENTIFIER, quote_identifier, quote_literal

if TYPE_CHECKING:
    from psycopg import AsyncConnection

    from perdure.store.sql import Names

__all__ = [
    "Rights",
    "Roles",
    "are_there",
    "check_rights",
    "check_schema",
    "how_to_get",
    "read_rights",
    "roles_of",
    "script",
]

_PLACE: Final = re.compile(r"\{(schema|owner|worker|starter|viewer)(_text)?\}")
_LONGEST_SUFFIX: Final = len("_starter")
_HASH_DIGITS: Final = 8


class Roles(NamedTuple):
    """The names of a schema's roles. None of them may log in: they are granted to users that may.

    Attributes:
        owner: Owns the schema and may migrate it.
        worker: May do all that workers and operators do.
        starter: May start jobs and send events.
        viewer: May read.
    """

    owner: str
    worker: str
    starter: str
    viewer: str


class Rights(NamedTuple):
    """What a user may do in a schema.

    Attributes:
        denied: What it may not use as a worker does.
        may_start: Whether it may start jobs.
        may_read: Whether it may read all there is.
    """

    denied: list[str]
    may_start: bool
    may_read: bool


def roles_of(names: Names) -> Roles:
    """Name the roles of a schema: after it, shortened with a hash where that would be too long."""
    prefix = names.schema_name
    room = LONGEST_IDENTIFIER - _LONGEST_SUFFIX
    data = prefix.encode()
    if len(data) > room:
        kept = data[: room - _HASH_DIGITS - 1].decode(errors="ignore")
        prefix = f"{kept}_{hashlib.sha256(data).hexdigest()[:_HASH_DIGITS]}"
    return Roles(*(f"{prefix}_{kind}" for kind in Roles._fields))


def check_schema(names: Names) -> None:
    """Make sure that the schema may have roles.

    Raises:
        MigrationFailed: It is `public`: their owner would get the application's tables as well.
    """
    if names.schema_name == "public":
        message = (
            "roles: the schema 'public' isn't perdure's alone, and all that is in it would become the owner role's; "
            "set persistence.schema_name to a schema of its own"
        )
        raise MigrationFailed(message)


async def are_there(connection: AsyncConnection[Any], names: Names) -> bool:
    """Whether the roles have been made; one of such a name may also have been made for something else."""
    call = Call(names.statements["has_roles"], {"roles": list(roles_of(names))}, lambda rows: bool(rows[0][0]))
    return await calls.run(connection, call)


def script(names: Names) -> str:
    """Return the SQL that makes the roles and gives them their rights; for one transaction."""
    source = resources.files("perdure.store").joinpath("migrations", "roles.sql").read_text("utf-8")
    given = {"schema": names.schema_name, **roles_of(names)._asdict()}
    # In one go: a schema may be called {owner}.
    return _PLACE.sub(lambda place: (quote_literal if place[2] else quote_identifier)(given[place[1]]), source)


async def read_rights(connection: AsyncConnection[Any], names: Names) -> Rights | None:
    """Tell what the connection's user may do; None when there is no schema."""
    # `to_regnamespace` reads its argument as SQL does.
    parameters = {"schema": quote_identifier(names.schema_name)}

    def read(rows: Any) -> Rights | None:
        return Rights(*rows[0]) if rows else None

    return await calls.run(connection, Call(names.statements["rights"], parameters, read))


async def check_rights(connection: AsyncConnection[Any], names: Names) -> None:
    """Make sure that the connection's user may do what workers do, if the schema is there at all.

    Raises:
        MissingRight: It may not.
    """
    rights = await read_rights(connection, names)
    if rights is not None and rights.denied:
        user = connection.info.user
        message = (
            f"worker: the user {user!r} may not use {', '.join(rights.denied)} of the schema {names.schema_name!r}; "
            f"{how_to_get('worker', names, user)}"
        )
        raise MissingRight(message)


def how_to_get(kind: str, names: Names, user: str) -> str:
    """Say what to do for somebody to have a role's rights."""
    role = getattr(roles_of(names), kind)
    return (
        f"`perdure migrate --roles` makes the role {role}, then: grant {quote_identifier(role)} to "
        f"{quote_identifier(user)}"
    )
