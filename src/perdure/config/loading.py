"""From all sources to one `Config`: arguments over environment over file over defaults, every value checked.

Neither reads files nor knows rules: `sources` and `sections` do.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypedDict, cast

from perdure.config.dsn import Dsn
from perdure.config.keys import DSN
from perdure.config.sections import (
    DSN_RULE,
    SECTIONS,
    ExecutionConfig,
    PersistenceConfig,
    SchedulingConfig,
    Section,
    refusal,
)
from perdure.config.sources import Given, Problems, from_arguments, from_environment, from_file
from perdure.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from perdure.config.rules import Rule, Shown

__all__ = ["Config", "Row", "load"]

_RULES: dict[str, Rule] = {
    DSN: DSN_RULE,
    **{f"{name}.{key}": rule for name, section in SECTIONS.items() for key, rule in section.rules().items()},
}


class Row(NamedTuple):
    """One effective setting.

    Attributes:
        key: `"dsn"`, or section and key: `"scheduling.batch_size"`.
        value: The value as JSON can hold it, passwords masked; durations as timespans.
        origin: Where it came from: "argument", a variable, a file, or "default".
    """

    key: str
    value: Shown
    origin: str


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that can be set, complete and checked. Made by `load`.

    Attributes:
        dsn: The connection string, whose `repr` is masked; None for the embedded PostgreSQL.
        persistence: Where jobs are stored.
        scheduling: How due jobs are fetched and retried.
        execution: How jobs run in a worker.
        origins: Where each value came from, by key.
    """

    dsn: str | None = None
    persistence: PersistenceConfig = field(default_factory=PersistenceConfig)
    scheduling: SchedulingConfig = field(default_factory=SchedulingConfig)
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)
    origins: Mapping[str, str] = field(default_factory=dict[str, str], compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.dsn is not None:
            value, problem = _read(Given(DSN, self.dsn, self.origins.get(DSN, "argument")))
            if problem:
                raise ConfigError(problem)
            object.__setattr__(self, "dsn", value)

    def describe(self) -> list[Row]:
        """List every setting with its effective value and where that came from. Passwords are masked."""
        masked = self.dsn.masked if isinstance(self.dsn, Dsn) else None
        rows = [Row(DSN, masked, self._origin(DSN, given=masked is not None))]
        for name in SECTIONS:
            section: Section = getattr(self, name)
            for key, rule in section.rules().items():
                path = f"{name}.{key}"
                origin = self._origin(path, given=key in section.given())
                rows.append(Row(path, rule.show(getattr(section, key)), origin))
        return rows

    def _origin(self, path: str, *, given: bool) -> str:
        """Where a value came from; a `Config` made by hand has no origins and was given its values by code."""
        return self.origins.get(path, "argument" if given else "default")


def load(
    *,
    dsn: str | None = None,
    persistence: PersistenceConfig | Mapping[str, object] | None = None,
    scheduling: SchedulingConfig | Mapping[str, object] | None = None,
    execution: ExecutionConfig | Mapping[str, object] | None = None,
    file: Path | str | None = None,
    environ: Mapping[str, str] | None = None,
) -> Config:
    """Put the configuration together: arguments over environment over file over defaults, key by key.

    Args:
        dsn: A connection string.
        persistence: A section as an object, or as a mapping in snake_case or PascalCase.
        scheduling: The same.
        execution: The same.
        file: A `.toml` or `.json` file. Without it: `perdure.toml` in the current folder, else the table
            `[tool.perdure]` of `pyproject.toml` there, else none.
        environ: The environment; `os.environ` unless told.

    Raises:
        ConfigError: Something isn't allowed, overridden or not. Names every such key, its origin, its value and
            what is allowed.
    """
    arguments = {DSN: dsn, "persistence": persistence, "scheduling": scheduling, "execution": execution}
    problems: Problems = []
    values: dict[str, object] = {}
    origins = dict.fromkeys(_RULES, "default")
    for given in chain(
        from_file(None if file is None else Path(file), problems),
        from_environment(os.environ if environ is None else environ, problems),
        from_arguments(arguments, problems),
    ):
        value, problem = _read(given)
        if problem:
            problems.append(problem)
        values[given.path], origins[given.path] = value, given.origin
    if problems:
        raise ConfigError(_listed(problems))
    return _assemble(values, origins)


class _Parts(TypedDict):
    persistence: PersistenceConfig
    scheduling: SchedulingConfig
    execution: ExecutionConfig


def _assemble(values: Mapping[str, object], origins: Mapping[str, str]) -> Config:
    sections = {
        name: section(**{key: values.get(f"{name}.{key}", default) for key, default in section.defaults().items()})
        for name, section in SECTIONS.items()
    }
    return Config(dsn=cast("str | None", values.get(DSN)), origins=origins, **cast("_Parts", sections))


def _read(given: Given) -> tuple[object, str | None]:
    """The value as its rule reads it, or what is wrong with it."""
    rule = _RULES[given.path]
    try:
        return (rule.read_text(given.value) if given.is_text else rule.read(given.value)), None  # type: ignore[arg-type]
    except ValueError as error:
        return None, refusal(given.path, given.origin, given.value, rule, error)


def _listed(problems: Problems) -> str:
    if len(problems) == 1:
        return problems[0]
    return "\n".join([f"{len(problems)} settings can't be used:", *(f"  - {problem}" for problem in problems)])
