"""Every exception that perdure raises, in one tree.

    PerdureError
    ├── ConfigError              a setting is missing, unknown or not allowed
    ├── DefinitionError          a task can't be what its code says
    ├── PayloadError
    │   ├── PayloadRefused       a value can't be stored as it is
    │   │   └── PayloadTooLarge  … because it is over `max_payload_bytes`
    │   └── PayloadUndecodable   what is stored doesn't fit the type
    ├── IllegalTransition        the transition table doesn't have this move
    ├── StoreError
    │   ├── DatabaseUnavailable  no connection could be had
    │   ├── MissingRight         the database's user may not do that
    │   ├── ServerTooOld         PostgreSQL is older than 14
    │   ├── SchemaOutdated       `perdure migrate` has to run first
    │   ├── SchemaTooNew         this perdure is too old for the schema
    │   └── MigrationFailed      a migration couldn't be applied; nothing of it was kept
    ├── EmbeddedError            the embedded PostgreSQL can't be used here
    ├── JobNotFoundError         no job has this id (any more)
    ├── JobEndedBadly
    │   ├── JobFailed            a result was awaited, the job failed
    │   └── JobCancelled         a result was awaited, the job was cancelled
    ├── AttemptError
    │   ├── LeaseLost            this attempt may not write any more
    │   ├── JobTimeout           the attempt ran past its task's `timeout`
    │   ├── DeadlineExceeded     the job wasn't done within its task's `deadline`
    │   └── WorkerLost           too many workers in a row died with this job
    ├── StateRepeated            a state machine came to an equal state twice in one run
    └── MisuseError              a call that isn't allowed here, and why

This module imports nothing of perdure, so that everything may import it.
"""

from __future__ import annotations

__all__ = [
    "AttemptError",
    "ConfigError",
    "DatabaseUnavailable",
    "DeadlineExceeded",
    "DefinitionError",
    "EmbeddedError",
    "IllegalTransition",
    "JobCancelled",
    "JobEndedBadly",
    "JobFailed",
    "JobNotFoundError",
    "JobTimeout",
    "LeaseLost",
    "MigrationFailed",
    "MissingRight",
    "MisuseError",
    "PayloadError",
    "PayloadRefused",
    "PayloadTooLarge",
    "PayloadUndecodable",
    "PerdureError",
    "SchemaOutdated",
    "SchemaTooNew",
    "ServerTooOld",
    "StateRepeated",
    "StoreError",
    "WorkerLost",
]


class PerdureError(Exception):
    """The root: `except PerdureError` catches whatever perdure itself raises."""


class ConfigError(PerdureError, ValueError):
    """A setting is missing, unknown or not allowed; names the key, the value and what is allowed."""


class DefinitionError(PerdureError, TypeError):
    """A task can't be what its code says; names the task and the parameter or type at fault."""


class PayloadError(PerdureError, ValueError):
    """A typed payload (metadata, execution metadata, result or error) and its JSON don't fit."""


class PayloadRefused(PayloadError):
    """A value can't be stored without loss; says where in it and why."""


class PayloadTooLarge(PayloadRefused):
    """A value's JSON is longer than `max_payload_bytes`."""


class PayloadUndecodable(PayloadError):
    """Stored JSON doesn't fit the type that the code declares; says where in it and why."""


class IllegalTransition(PerdureError):
    """The transition table has no move from this state to that one."""


class StoreError(PerdureError):
    """The database can't be used as it is; the message tells what to do."""


class DatabaseUnavailable(StoreError):
    """No connection to the database could be had in time."""


class MissingRight(StoreError):
    """The database's user may not do that; says which rights it takes, and how it gets them."""


class ServerTooOld(StoreError):
    """The PostgreSQL server is older than version 14."""


class SchemaOutdated(StoreError):
    """The schema lacks migrations that this perdure needs: run `perdure migrate`."""


class SchemaTooNew(StoreError):
    """The schema was migrated by a newer major version than this perdure understands."""


class MigrationFailed(StoreError):
    """A migration couldn't be applied, and nothing of it was kept."""


class EmbeddedError(PerdureError):
    """The embedded PostgreSQL can't be used here; says why and what would help."""


class JobNotFoundError(PerdureError, LookupError):
    """No job has this id, or it has been deleted since."""


class JobEndedBadly(PerdureError):
    """A result was awaited of a job that ended without one.

    Attributes:
        job_id: The job's id.
        error: Its stored error: the task's own error type, or `Raised`.
    """

    def __init__(self, message: str, *, job_id: int, error: object) -> None:
        """Keep the job's id and its stored error beside the message."""
        super().__init__(message)
        self.job_id = job_id
        self.error = error


class JobFailed(JobEndedBadly):
    """A result was awaited of a job that failed."""


class JobCancelled(JobEndedBadly):
    """A result was awaited of a job that was cancelled."""


class AttemptError(PerdureError):
    """Something ended an attempt from outside its handler."""


class LeaseLost(AttemptError):
    """This attempt may not write any more: another may have the job. Nothing of the refused write was kept."""


class JobTimeout(AttemptError, TimeoutError):
    """The attempt ran past its task's `timeout`."""


class DeadlineExceeded(AttemptError, TimeoutError):
    """The job wasn't done within its task's `deadline`, counted from its first due time, suspensions included."""


class WorkerLost(AttemptError):
    """Too many workers in a row died while they ran this job."""


class StateRepeated(PerdureError):
    """A state machine came to an equal state twice in one run, and would do so for ever; names the state."""


class MisuseError(PerdureError, RuntimeError):
    """A call that isn't allowed here; says why, and what to do instead."""
