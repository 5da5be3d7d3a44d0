"""What somebody may have written into a column by hand: values that PostgreSQL takes and nobody expects there.

Each is an SQL expression. Where a constraint refuses one, that is an answer, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import psycopg

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ATTEMPTS", "EVENTS", "FINISHED_JOBS", "JOBS", "STEPS", "WORKERS", "Spoiler"]

_TIMES: Final = (
    "'infinity'",
    "'-infinity'",
    "'4713-01-01 BC'",
    "'0001-01-01 00:00:00+14'",
    "'9999-12-31 23:59:59.999999+00'",
    "'10000-01-01'",
    "'294276-12-31'",
)
_SMALL: Final = ("-32768", "-1", "32767")
_INTS: Final = ("-2147483648", "-1", "2147483646", "2147483647")
_BOOLS: Final = ("true", "false")
_TEXTS: Final = (
    "''",
    "' '",
    "E'\\x1b[2J\\n\\u202e'",
    "'%s %(x)s {} {schema}'",
    "E'\\'; drop table jobs; --'",
    "repeat('x', 9000)",
    "repeat('é', 100)",
)
_DEEP: Final = "(repeat('[', 3000) || repeat(']', 3000))"
_JSON: Final = (
    "'null'",
    "'true'",
    "'1'",
    "'1e400'",
    "'-1e400'",
    "('1' || repeat('0', 5000))::text",
    "'\"text\"'",
    "'[]'",
    "'{}'",
    "'{\"shop\": null}'",
    '\'{"shop": 5, "rows": "many"}\'',
    '\'{"shop": "riga", "rows": 1e400}\'',
    '\'{"": {"": {"\\\\": "\\u2028"}}}\'',
    "'{\"raised\": 5}'",
    '\'{"raised": {"type": 5}}\'',
    '\'{"error": {"since": []}}\'',
    '\'{"type": "Nobody"}\'',
    '\'{"until": "never", "found": 5, "version": "x"}\'',
    '\'{"done": 1e400, "total": 0, "at": "0001-01-01T00:00:00+14:00"}\'',
    '\'{"done": 5, "total": 1e-320, "note": "\\u001b[2J", "at": "9999-12-31T23:59:59-14:00"}\'',
    '\'{"done": 5, "total": null, "note": null, "at": "2020-01-01T00:00:00"}\'',
    _DEEP,
    "('\"' || repeat('x', 3000000) || '\"')",
)
# Of the type json, whose texts are stored as they are.
_TEXT_JSON: Final = (
    *_JSON,
    "'\"\\u0000\"'",
    "'\"\\ud800\"'",
    '\'{"a": 1, "a": 2}\'',
    "('{\"raised\": ' || " + _DEEP + " || '}')",
)
_PROGRESS: Final = tuple(
    f'\'{{"done": 1, "total": 2, "note": null, "at": "{at}"}}\''
    for at in ("2026-11-24T12:00:00", "0001-01-01T00:00:00", "9999-12-31T23:59:59", "0001-01-01T00:00:00+14:00")
)
_UUIDS: Final = ("'00000000-0000-0000-0000-000000000000'", "gen_random_uuid()")

JOBS: Final[dict[str, tuple[str, ...]]] = {
    "scheduled_at": (*_TIMES, "null"),
    "created_at": _TIMES,
    "started_at": _TIMES,
    "worker_id": _UUIDS,
    "lapsed_worker_id": _UUIDS,
    "claim": _INTS,
    "attempt": _INTS,
    "retry_number": _INTS,
    "scheduler_retries": _INTS,
    "checkpoint": _INTS,
    "claim_checkpoint": _INTS,
    "state": ("-32768", "-1", "1", "6", "9", "32767"),
    "priority": (*_SMALL, "100", "-100"),
    "lapses": _SMALL,
    "unreadable": _SMALL,
    "suspect": _BOOLS,
    "proceed_requested": _BOOLS,
    "proceed_at": _TIMES,
    "cancel_requested": _BOOLS,
    "awaited": _BOOLS,
    "woken_by": (*_SMALL, "1", "2", "3"),
    "asleep": _BOOLS,
    "deadline_at": _TIMES,
    "version": (*_INTS, "0", "2"),
    "queue": _TEXTS,
    "task": _TEXTS,
    "metadata": _JSON,
    "execution_metadata": _JSON,
    "error": _TEXT_JSON,
    "last_error": _TEXTS,
    "progress": (*_TEXT_JSON, *_PROGRESS),
}
"""Of a job that can still run."""

FINISHED_JOBS: Final[dict[str, tuple[str, ...]]] = {
    **{
        name: values
        for name, values in JOBS.items()
        if name
        in {
            "scheduled_at", "created_at", "started_at", "worker_id", "claim", "attempt", "retry_number", "checkpoint",
            "priority", "queue", "task", "metadata", "execution_metadata", "error", "last_error", "progress",
            "woken_by", "deadline_at", "version",
        }
    },
    "finished_at": _TIMES,
    "state": ("-1", "0", "5", "9", "32767"),
    "result": (*_TEXT_JSON, "null"),
}  # fmt: skip
"""Of a job that has ended."""

EVENTS: Final[dict[str, tuple[str, ...]]] = {
    "job_id": ("-1", "9223372036854775807"),
    "sent_at": _TIMES,
    "version": (*_INTS, "0", "2"),
    "woke": _BOOLS,
    "event": _JSON,
}
"""Of an unread event."""

STEPS: Final[dict[str, tuple[str, ...]]] = {
    "job_id": ("-1", "9223372036854775807"),
    "key": ("''", "repeat('x', 201)", "'other'", "E'\\n\\x1b'"),
    "result": _TEXT_JSON,
    "stored_at": _TIMES,
}
"""Of a step's result."""

ATTEMPTS: Final[dict[str, tuple[str, ...]]] = {
    "attempt": _INTS,
    "worker_id": (*_UUIDS, "null"),
    "started_at": (*_TIMES, "null"),
    "ended_at": _TIMES,
    "ending": (*_SMALL, "1", "9"),
    "woken_by": (*_SMALL, "77"),
    "error": _TEXT_JSON,
}
"""Of an attempt in a job's history."""

WORKERS: Final[dict[str, tuple[str, ...]]] = {
    "lease_until": _TIMES,
    "lease_seconds": ("'NaN'", "'infinity'", "'-infinity'", "-1", "0", "1e300", "-1e300", "1e-300"),
    "lapsed_at": _TIMES,
    "left_at": _TIMES,
    "started_at": _TIMES,
    "sleeping": _BOOLS,
    "host": _TEXTS,
    "pid": _INTS,
    "concurrency": _INTS,
    "queues": ("array[null]::text[]", "'{}'", "array[['a', 'b'], ['c', 'd']]", "array[repeat('x', 9000)]"),
    "version": _TEXTS,
}
"""Of a worker."""


class Spoiler:
    """Writes such values into rows, over a connection in autocommit mode."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self._connection = connection
        self._types: dict[tuple[str, str], str] = {}

    async def run(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Run a statement in the schema; `{s}` is its name."""
        text = statement.replace("{s}", "background_tasks")
        cursor = await self._connection.execute(text.encode(), parameters or None)
        return await cursor.fetchall() if cursor.description else []

    async def spoil(self, table: str, where: str, values: Mapping[str, str]) -> bool:
        """Set columns of the rows of a table; returns whether PostgreSQL took that."""
        if not values:
            return True
        settings = [f"{column} = ({value})::{await self._type(table, column)}" for column, value in values.items()]
        try:
            await self.run(f"update {{s}}.{table} set {', '.join(settings)} where {where}")
        except psycopg.errors.IntegrityError:  # a constraint
            return False
        except psycopg.errors.DataError:  # it is no such value at all: a day before the calendar's begin
            return False
        return True

    async def _type(self, table: str, column: str) -> str:
        if (table, column) not in self._types:
            rows = await self.run(
                "select attname, format_type(atttypid, atttypmod) from pg_attribute "
                "where attrelid = %s::regclass and attnum > 0 and not attisdropped",
                f"background_tasks.{table}",
            )
            self._types |= {(table, name): kind for name, kind in rows}
        return self._types[table, column]
