"""What the database refuses; and what an error of its may be called where nothing of a row is to be read: in a log.

PostgreSQL quotes what it refuses, in its details the whole row: "Failing row contains (…)".
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

import psycopg

from perdure.config.dsn import hide_passwords
from perdure.errors import PayloadRefused, PayloadUndecodable

if TYPE_CHECKING:
    from collections.abc import Generator

    from psycopg import BaseConnection

__all__ = ["encodable", "for_log", "is_full_queue", "is_refusal", "reason"]

# Cardinality, data, integrity, program limits, errors that PL/pgSQL raises, internal errors: the same entry meets them
# again. All other classes come and go with the server's state: resources, locks, shutdowns, rights, a standby.
_REFUSALS: Final = ("21", "22", "23", "54", "P0", "XX")
# But a full queue of notifications has the number of a program limit. Where in the server it comes from tells: what it
# says is translated.
_NOTIFICATIONS: Final = "async.c"


def is_refusal(error: psycopg.Error) -> bool:
    """Tell whether the database refuses what it was given, whenever it is given it."""
    if error.sqlstate is None:  # psycopg itself: it can't send or read a value
        return isinstance(error, psycopg.DataError | psycopg.ProgrammingError)
    return error.sqlstate.startswith(_REFUSALS) and not is_full_queue(error)


@contextlib.contextmanager
def encodable(connection: BaseConnection[Any]) -> Generator[None]:
    """Send and read texts; say what is wrong where the connection's encoding lacks a character of theirs.

    Raises:
        PayloadRefused: It lacks one that was to be sent, and nothing was.
        PayloadUndecodable: It lacks one of what is stored.
    """
    encoding = connection.pgconn.parameter_status(b"client_encoding")  # a transaction that fails may set it back
    try:
        yield
    except (UnicodeEncodeError, psycopg.errors.UntranslatableCharacter) as error:
        if encoding is None or encoding == b"UTF8":
            raise  # it is no text: half of a surrogate pair; or the database's encoding lacks it
        then = (
            f"over this connection, whose client_encoding is {encoding.decode()}; "
            "use one whose client_encoding is UTF8: its dsn says which it is, or PGCLIENTENCODING, or SET"
        )
        if isinstance(error, UnicodeEncodeError):
            message = f"{error.object[error.start]!r} can't be sent {then}"
            raise PayloadRefused(message) from error
        message = f"what is stored can't all be read ({reason(error)}) {then}"
        raise PayloadUndecodable(message) from error


def is_full_queue(error: psycopg.Error) -> bool:
    """Tell whether no notification can be sent for now: somebody listens, and stays in a transaction."""
    return error.sqlstate == "54000" and (error.diag.source_file or "").endswith(_NOTIFICATIONS)


def reason(error: BaseException) -> str:
    """Say in a line why, without what PostgreSQL adds to it: for the row itself, and who may read that."""
    said = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    return hide_passwords(" ".join((said or str(error)).split()))


def for_log(error: BaseException) -> str:
    """Say in a line what kind of error it is and, where that can't quote a value, why."""
    kind = type(error).__name__
    if not isinstance(error, psycopg.Error) or not is_refusal(error):
        return f"{kind}: {reason(error)}"
    diag = error.diag
    named = {
        "constraint": diag.constraint_name,
        "type": diag.datatype_name,
        "column": diag.column_name,
        "table": diag.table_name,
    }
    where = "".join(f", {what} {name}" for what, name in named.items() if name)
    return f"{kind} ({error.sqlstate or 'of the driver'}{where})"
