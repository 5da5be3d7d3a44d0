"""Statements and names: loads the SQL files and puts the schema's quoted name into them.

Nothing is ever formatted into a statement but that name; all values are parameters.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import resources

from perdure.errors import ConfigError

__all__ = [
    "CLAIM_COLUMNS",
    "JOB_COLUMNS",
    "LIVE_COLUMNS",
    "LONGEST_IDENTIFIER",
    "Names",
    "Statements",
    "names_of",
    "quote_identifier",
    "quote_literal",
]

JOB_COLUMNS = (
    "id",
    "state",
    "task",
    "queue",
    "priority",
    "attempt",
    "retry_number",
    "created_at",
    "scheduled_at",
    "started_at",
    "finished_at",
    "worker_id",
    "cancel_requested",
    "metadata",
    "execution_metadata",
    "result",
    "error",
    "last_error",
    "progress",
    "woken_by",
    "deadline_at",
    "version",
)
"""The columns of every statement that reads whole jobs, in the order of `jobs.JobRow`."""

LIVE_COLUMNS = tuple(
    {"finished_at": "null::timestamptz", "result": "null::json"}.get(column, column) for column in JOB_COLUMNS
)
"""The same of a statement that reads or writes live jobs only."""

_DUE = "extract(epoch from scheduled_at)::float8 as due"
CLAIM_COLUMNS = (
    "id",
    "task",
    "claim",
    "attempt",
    "retry_number",
    "scheduler_retries",
    "lapses",
    "checkpoint",
    "queue",
    "metadata",
    "execution_metadata",
    "priority",
    _DUE,
    "woken_by",
    "version",
    "case when isfinite(deadline_at) then extract(epoch from deadline_at - clock_timestamp())::float8 end as left",
)
"""The columns of the claims, in the order of `claims.Claimed`."""

# After the first four columns of a claim's last row, which is no job: when it was asked, in the place of a due time.
_ASKED_AT = {_DUE: "extract(epoch from statement_timestamp())::float8"}
# Identifiers are cut at 63 bytes, silently: a longer name would mean another schema or channel than was asked for.
LONGEST_IDENTIFIER = 63
_PLACE = re.compile(r"\{(schema|schema_text|job_ids|job_columns|live_columns|claim_columns|asked_at)\}")


def quote_identifier(name: str) -> str:
    """Return the name as a quoted identifier.

    Raises:
        ConfigError: The name is empty, too long, or holds what no text in a database can.
    """
    data = name.encode(errors="replace")  # a lone surrogate becomes a question mark, so another name
    if not name or "\0" in name or data.decode() != name or len(data) > LONGEST_IDENTIFIER:
        message = (
            f"persistence.schema_name: {name!r} can't name a schema; allowed are 1 to {LONGEST_IDENTIFIER} bytes of "
            "UTF-8 without NUL"
        )
        raise ConfigError(message)
    return '"' + name.replace('"', '""') + '"'


def quote_literal(text: str) -> str:
    """Return the text as a literal that no setting (standard_conforming_strings) reads otherwise."""
    return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


class Statements:
    """The statements of one schema, read from `queries/` when first asked for."""

    def __init__(self, schema_name: str) -> None:
        """Prepare the statements of the schema of this name."""
        self._schema, self._schema_text = quote_identifier(schema_name), quote_literal(schema_name)
        self._texts: dict[str, bytes] = {}

    def __getitem__(self, name: str) -> bytes:
        """Return the statement in `queries/<name>.sql`, ready for psycopg (whose placeholders are %(…)s)."""
        text = self._texts.get(name)
        if text is None:
            source = resources.files("perdure.store").joinpath("queries", f"{name}.sql").read_text("utf-8")
            text = self._texts[name] = self.fill(source, parametrised=True).encode()
        return text

    def fill(self, source: str, *, parametrised: bool) -> str:
        """Put the schema's name and the lists of columns into a file's text."""
        schema, text = self._schema, self._schema_text
        sequence = quote_literal(f"{schema}.job_ids") + "::regclass"
        if parametrised:  # psycopg reads every % of a statement with parameters
            schema, text, sequence = (part.replace("%", "%%") for part in (schema, text, sequence))
        values = {
            "schema": schema,
            "schema_text": text,
            "job_ids": sequence,
            "job_columns": ", ".join(JOB_COLUMNS),
            "live_columns": ", ".join(LIVE_COLUMNS),
            "claim_columns": ", ".join(CLAIM_COLUMNS),
            "asked_at": ", ".join(_ASKED_AT.get(column, "null") for column in CLAIM_COLUMNS[4:]),
        }
        code = "\n".join(line for line in source.splitlines() if not line.startswith("--") or not parametrised)
        # In one go: a schema may be called {job_columns}.
        return _PLACE.sub(lambda place: values[place[1]], code)


@dataclass(frozen=True)
class Names:
    """Everything in the database that is named after the schema.

    Attributes:
        schema_name: The schema, as configured.
    """

    schema_name: str

    @cached_property
    def statements(self) -> Statements:
        """The schema's statements."""
        return Statements(self.schema_name)

    @cached_property
    def work_channel(self) -> str:
        """The channel that tells workers of due jobs; the payload is the queue."""
        return self._channel("work")

    @cached_property
    def done_channel(self) -> str:
        """The channel that tells waiters of a job's end; the payload is the job's id."""
        return self._channel("done")

    @cached_property
    def cancel_channel(self) -> str:
        """The channel that tells workers of cancel requests; the payload is the job's id."""
        return self._channel("cancel")

    @property
    def advisory_key(self) -> int:
        """The key of the transaction-level lock that migrators of this schema take."""
        digest = hashlib.sha256(f"perdure migrate {self.schema_name}".encode()).digest()
        return int.from_bytes(digest[:8], "big", signed=True)

    def _channel(self, purpose: str) -> str:
        # Channels are cut at 63 bytes: a hash keeps long schema names apart.
        digest = hashlib.sha256(self.schema_name.encode()).hexdigest()[:16]
        return f"perdure_{purpose}_{digest}"


@lru_cache(maxsize=64)
def names_of(schema_name: str) -> Names:
    """Return the (shared) names of a schema."""
    return Names(schema_name)
