"""The settings: three sections, and beside each key its rule and its default. The one list of what can be set."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Final, Self, get_type_hints

from perdure.config.dsn import NOT_SHOWN
from perdure.config.rules import Delays, DsnRule, DurationBetween, Rule, SchemaName, Switch, WholeNumber, show_value
from perdure.errors import ConfigError, MisuseError
from perdure.shown import shorten

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from perdure.durations import Duration

__all__ = ["DSN_RULE", "SECTIONS", "ExecutionConfig", "PersistenceConfig", "SchedulingConfig", "Section", "refusal"]

DSN_RULE: Final[Rule] = DsnRule()

_INT4 = 2**31 - 1  # a PostgreSQL integer
_SMALLINT = 2**15 - 1  # a PostgreSQL smallint, which counts a job's lapses
_JSONB = 2**28 - 1  # what PostgreSQL's jsonb can hold

_ANY_DURATION = DurationBetween(timedelta(0))
_POLLING = DurationBetween(timedelta(milliseconds=20), timedelta(days=1))


class Section:
    """What the three have in common: every value is checked, and which were given is remembered.

    Only what was given counts as an argument, so that an object and the mapping with the same keys mean the same.
    """

    if not TYPE_CHECKING:  # type checkers are to see each section's own constructor alone

        def __new__(cls, **given: object) -> Self:
            """Remember which keys were given; in `__dict__`, so that it survives a copy and a pickle."""
            section = super().__new__(cls)
            object.__setattr__(section, "_given", frozenset(given))
            return section

    def __post_init__(self) -> None:
        problems: list[str] = []
        for key, rule in self.rules().items():
            value = getattr(self, key)
            try:
                object.__setattr__(self, key, rule.read(value))
            except ValueError as error:
                problems.append(refusal(f"{self.name()}.{key}", "argument", value, rule, error))
        if problems:
            raise ConfigError("\n".join(problems))

    @classmethod
    def name(cls) -> str:
        """The section's name in files and messages."""
        return cls.__name__.removesuffix("Config").lower()

    @classmethod
    @cache
    def rules(cls) -> Mapping[str, Rule]:
        """Each key's rule, in the order in which they are shown."""
        return {key: annotation.__metadata__[0] for key, annotation in get_type_hints(cls, include_extras=True).items()}

    @classmethod
    def defaults(cls) -> Mapping[str, object]:
        """Each key's default."""
        return {key: getattr(cls, key) for key in cls.rules()}

    @classmethod
    def read(cls, key: str, value: object, *, where: str) -> Any:
        """Read, by its key's rule, a value that a call was given instead of what is configured.

        Raises:
            MisuseError: It isn't allowed.
        """
        rule = cls.rules()[key]
        try:
            return rule.read(value)
        except ValueError as error:
            reason = f" ({error})" if str(error) else ""
            message = f"{where}: {key}={shorten(value)} isn't allowed{reason}; it is {rule.allowed}"
            raise MisuseError(message) from None

    def given(self) -> Mapping[str, object]:
        """The keys that this object was made with, and their values."""
        names: frozenset[str] = self.__dict__["_given"]
        return {key: getattr(self, key) for key in self.rules() if key in names}


@dataclass(frozen=True, kw_only=True)
class PersistenceConfig(Section):
    """Where jobs are stored.

    Attributes:
        schema_name: The PostgreSQL schema that holds perdure's tables.
        prepared_statements: Whether statements may be prepared. Behind a pooler that is noticed they never are.
    """

    schema_name: Annotated[str, SchemaName()] = "background_tasks"
    prepared_statements: Annotated[bool, Switch()] = True


@dataclass(frozen=True, kw_only=True)
class SchedulingConfig(Section):
    """How due jobs are fetched, and how an attempt that raised is run again.

    Attributes:
        batch_size: Most jobs fetched per enqueueing run.
        polling_delay: Delay between enqueueing runs when no notification comes.
        notifications: Whether to listen for notifications; without them everything is found by polling.
        scheduler_retry_count: How often an attempt that raised runs again before an enqueueing retry is spent.
        scheduler_retry_delays: Seconds before each of these; the last repeats.
    """

    batch_size: Annotated[int, WholeNumber(1, _INT4)] = 500
    polling_delay: Annotated[timedelta, _POLLING] = timedelta(seconds=1)
    notifications: Annotated[bool, Switch()] = True
    scheduler_retry_count: Annotated[int, WholeNumber(0, _INT4)] = 5
    scheduler_retry_delays: Annotated[tuple[float, ...], Delays(_ANY_DURATION)] = (60, 120, 300, 600)

    if TYPE_CHECKING:  # the constructor takes every notation of a duration; the attributes are of one type

        def __init__(
            self,
            *,
            batch_size: int = ...,
            polling_delay: Duration = ...,
            notifications: bool = ...,
            scheduler_retry_count: int = ...,
            scheduler_retry_delays: Sequence[Duration] = ...,
        ) -> None: ...


@dataclass(frozen=True, kw_only=True)
class ExecutionConfig(Section):
    """How jobs run in a worker process.

    Attributes:
        max_retry_count: Enqueueing retries before a job is failed.
        lease_duration: How long a worker may hold its jobs without renewing; it renews three times in it.
        max_lapses: How many workers in a row a job may lose before it is failed.
        shutdown_grace: How long running jobs may go on after the worker is asked to stop.
        cancel_grace: How long a cancelled handler has to unwind before it is left behind.
        max_stall: How long an event loop may stand still before its process ends.
        concurrency: Jobs at once in a worker process.
        threads: `def` handlers at once in a worker process.
        max_connections: Connections for the application's calls and its handlers' transactions.
        max_payload_bytes: Most bytes of each of metadata, execution metadata, result, error and event.
    """

    max_retry_count: Annotated[int, WholeNumber(0, _INT4)] = 0
    lease_duration: Annotated[timedelta, DurationBetween(timedelta(seconds=2))] = timedelta(seconds=30)
    max_lapses: Annotated[int, WholeNumber(1, _SMALLINT)] = 3
    shutdown_grace: Annotated[timedelta, _ANY_DURATION] = timedelta(seconds=10)
    cancel_grace: Annotated[timedelta, _ANY_DURATION] = timedelta(seconds=5)
    max_stall: Annotated[timedelta, DurationBetween(timedelta(seconds=10))] = timedelta(minutes=5)
    concurrency: Annotated[int, WholeNumber(1, _INT4)] = 100
    threads: Annotated[int, WholeNumber(1, _INT4)] = 32
    max_connections: Annotated[int, WholeNumber(1, _INT4)] = 10
    max_payload_bytes: Annotated[int, WholeNumber(1, _JSONB)] = 2 * 1024 * 1024

    if TYPE_CHECKING:

        def __init__(  # noqa: PLR0913 - one per key
            self,
            *,
            max_retry_count: int = ...,
            lease_duration: Duration = ...,
            max_lapses: int = ...,
            shutdown_grace: Duration = ...,
            cancel_grace: Duration = ...,
            max_stall: Duration = ...,
            concurrency: int = ...,
            threads: int = ...,
            max_connections: int = ...,
            max_payload_bytes: int = ...,
        ) -> None: ...


SECTIONS: Final[Mapping[str, type[Section]]] = {
    section.name(): section for section in (PersistenceConfig, SchedulingConfig, ExecutionConfig)
}


def refusal(key: str, origin: str, value: object, rule: Rule, error: ValueError) -> str:
    """The sentence that says which value, from where, was refused, and what is allowed."""
    reason = f" ({error})" if str(error) else ""
    # What can't be read as a connection string can't be masked for sure either.
    shown = f"the value {NOT_SHOWN}" if rule is DSN_RULE and value and isinstance(value, str) else show_value(value)
    return f"{key} ({origin}): {shown} is not allowed{reason}; allowed is {rule.allowed}"
