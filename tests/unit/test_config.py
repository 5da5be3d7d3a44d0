"""spec: three sections, validated when loaded, each error naming the key, the value and what is allowed."""

from __future__ import annotations

import copy
import math
import pickle
from dataclasses import FrozenInstanceError, replace
from datetime import timedelta
from typing import Any

import pytest

from perdure.config import Config, ExecutionConfig, PersistenceConfig, SchedulingConfig, load
from perdure.config.keys import VARIABLES, pascal
from perdure.config.sections import SECTIONS
from perdure.errors import ConfigError

SECTION_NAMES = ("persistence", "scheduling", "execution")


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings file of this project's own may be found."""
    monkeypatch.chdir(tmp_path)


def refused(**arguments: Any) -> str:
    arguments.setdefault("environ", {})
    with pytest.raises(ConfigError) as caught:
        load(**arguments)
    return str(caught.value)


def test_the_defaults_are_those_of_the_spec() -> None:
    config = load(environ={})
    assert config == Config()
    assert config.dsn is None
    assert config.persistence == PersistenceConfig(schema_name="background_tasks", prepared_statements=True)
    assert config.scheduling == SchedulingConfig(
        batch_size=500,
        polling_delay=timedelta(seconds=1),
        notifications=True,
        scheduler_retry_count=5,
        scheduler_retry_delays=(60, 120, 300, 600),
    )
    assert config.execution == ExecutionConfig(
        max_retry_count=0,
        lease_duration=timedelta(seconds=30),
        max_lapses=3,
        shutdown_grace=timedelta(seconds=10),
        cancel_grace=timedelta(seconds=5),
        max_stall=timedelta(minutes=5),
        concurrency=100,
        threads=32,
        max_connections=10,
        max_payload_bytes=2 * 1024 * 1024,
    )
    assert all(row.origin == "default" for row in config.describe())


DAY = timedelta(days=1)
CENTURY = timedelta(days=36_500)
INT4 = 2**31 - 1
BOUNDS: list[tuple[str, str, Any, Any, Any, Any]] = [
    # section, key, just too little, least, most, just too much
    ("scheduling", "batch_size", 0, 1, INT4, INT4 + 1),
    ("scheduling", "polling_delay", timedelta(microseconds=19_999), 0.02, DAY, DAY + timedelta(microseconds=1)),
    ("scheduling", "scheduler_retry_count", -1, 0, INT4, INT4 + 1),
    ("scheduling", "scheduler_retry_delays", [-0.000001], [0], [CENTURY], [CENTURY + DAY]),
    ("execution", "max_retry_count", -1, 0, INT4, INT4 + 1),
    ("execution", "lease_duration", 1.999999, 2, CENTURY, CENTURY + DAY),
    ("execution", "max_lapses", 0, 1, 32_767, 32_768),
    ("execution", "shutdown_grace", -0.000001, 0, CENTURY, CENTURY + DAY),
    ("execution", "cancel_grace", -0.000001, 0, CENTURY, CENTURY + DAY),
    ("execution", "max_stall", 9.999999, 10, CENTURY, CENTURY + DAY),
    ("execution", "concurrency", 0, 1, INT4, INT4 + 1),
    ("execution", "threads", 0, 1, INT4, INT4 + 1),
    ("execution", "max_connections", 0, 1, INT4, INT4 + 1),
    ("execution", "max_payload_bytes", 0, 1, 2**28 - 1, 2**28),
]


SWITCHES = [("persistence", "prepared_statements"), ("scheduling", "notifications")]


def test_the_bounds_of_every_key_are_tested_here() -> None:
    tested = {f"{section}.{key}" for section, key, *_ in BOUNDS + SWITCHES}
    assert tested | {"dsn", "persistence.schema_name"} == set(VARIABLES.values())


@pytest.mark.parametrize(("section", "key"), SWITCHES)
def test_a_switch_is_true_or_false_and_nothing_that_looks_like_it(section: str, key: str) -> None:
    variable = f"PERDURE_{section.upper()}_{key.upper()}"
    for value in (True, False):
        assert getattr(getattr(load(environ={}, **{section: {key: value}}), section), key) is value  # type: ignore[arg-type]
        assert getattr(getattr(load(environ={variable: f" {value} "}), section), key) is value
    for wrong in (0, 1, "true", "", None, [True], 1.0):
        message = refused(**{section: {key: wrong}})
        assert message == f"{section}.{key} (argument): {wrong!r} is not allowed; allowed is true or false"
    assert f"{section}.{key} ({variable}): '1' is not allowed" in refused(environ={variable: "1"})


@pytest.mark.parametrize(("section", "key", "too_little", "least", "most", "too_much"), BOUNDS)
def test_a_value_at_its_bounds_is_taken_and_one_beyond_is_refused(
    section: str, key: str, too_little: object, least: object, most: object, too_much: object
) -> None:
    for allowed in (least, most):
        load(environ={}, **{section: {key: allowed}})  # type: ignore[arg-type]
    for wrong in (too_little, too_much):
        message = refused(**{section: {key: wrong}})
        assert message.startswith(f"{section}.{key} (argument): ")
        assert repr(wrong[0] if isinstance(wrong, list) else wrong) in message
        assert "; allowed is " in message


@pytest.mark.parametrize("key", [row[:2] for row in BOUNDS])
@pytest.mark.parametrize("value", [True, False, None, math.nan, math.inf, "500", "", b"1", {}, [True], [None], 1j])
def test_what_only_looks_like_a_number_is_refused(key: tuple[str, str], value: object) -> None:
    message = refused(**{key[0]: {key[1]: value}})
    assert message.startswith(f"{key[0]}.{key[1]} (argument): ")


def test_a_whole_number_is_no_float() -> None:
    assert "500.0 is not allowed" in refused(scheduling={"batch_size": 500.0})


@pytest.mark.parametrize(
    "name", ["x", "Background Tasks", 'a"b', "a.b", "äöü", "ж" * 31, "n" * 63, " ", "1", "select", "pgx", "PG_x", "'"]
)
def test_any_legal_postgresql_name_is_taken_as_schema_name(name: str) -> None:
    assert load(environ={}, persistence={"schema_name": name}).persistence.schema_name == name
    assert load(environ={"PERDURE_PERSISTENCE_SCHEMA_NAME": name}).persistence.schema_name == name


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "it is empty"),
        ("n" * 64, "it has 64 bytes"),
        ("ж" * 32, "it has 64 bytes"),
        ("a\0b", "NUL"),
        ("\ud800", "surrogate"),
        ("pg_jobs", "keeps that name for itself"),
        ("information_schema", "keeps that name for itself"),
    ],
)
def test_a_name_that_postgresql_refuses_or_cuts_short_is_refused(name: str, reason: str) -> None:
    message = refused(persistence={"schema_name": name})
    assert reason in message
    assert "allowed is a non-empty PostgreSQL name of at most 63 bytes" in message


@pytest.mark.parametrize("name", [None, 5, True, b"jobs", ["jobs"]])
def test_a_schema_name_is_text(name: object) -> None:
    assert refused(persistence={"schema_name": name}).startswith("persistence.schema_name (argument): ")


@pytest.mark.parametrize("value", [timedelta(milliseconds=500), 0.5, "00:00:00.500"])
def test_every_duration_may_be_a_timedelta_seconds_or_a_timespan(value: object) -> None:
    config = load(
        environ={},
        scheduling={"polling_delay": value, "scheduler_retry_delays": [value]},
        execution={"shutdown_grace": value},
    )
    assert config.scheduling.polling_delay == timedelta(milliseconds=500)
    assert list(config.scheduling.scheduler_retry_delays) == [0.5]
    assert config.execution.shutdown_grace == timedelta(milliseconds=500)


@pytest.mark.parametrize("key", [key for key in VARIABLES.values() if key != "dsn"])
def test_every_key_can_be_written_in_pascal_case(key: str) -> None:
    section, name = key.split(".")
    default = SECTIONS[section].defaults()[name]
    rows = {row.key: row for row in load(environ={}, **{section: {pascal(name): default}}).describe()}  # type: ignore[arg-type]
    assert rows[key].origin == "argument"


def test_an_object_and_the_mapping_with_the_same_keys_mean_the_same() -> None:
    environ = {"PERDURE_SCHEDULING_POLLING_DELAY": "0.5"}
    as_object = load(environ=environ, scheduling=SchedulingConfig(batch_size=500))
    as_mapping = load(environ=environ, scheduling={"batch_size": 500})
    assert as_object == as_mapping
    assert as_object.scheduling.polling_delay == timedelta(milliseconds=500)
    assert as_object.describe() == as_mapping.describe()


def test_an_object_with_every_key_given_overrides_everything() -> None:
    loaded = load(environ={"PERDURE_SCHEDULING_BATCH_SIZE": "7"}).scheduling
    for section in (loaded, copy.copy(loaded), pickle.loads(pickle.dumps(loaded)), replace(loaded)):  # noqa: S301 - our own
        assert load(environ={"PERDURE_SCHEDULING_BATCH_SIZE": "9"}, scheduling=section).scheduling == loaded


def test_a_section_is_checked_when_it_is_made() -> None:
    with pytest.raises(ConfigError) as caught:
        SchedulingConfig(batch_size=0, polling_delay="never")
    assert str(caught.value) == (
        "scheduling.batch_size (argument): 0 is not allowed; allowed is a whole number from 1 to 2147483647\n"
        "scheduling.polling_delay (argument): 'never' is not allowed; allowed is 20 ms to 1 day, "
        'as a timedelta, seconds, or a timespan such as "00:00:00.500" or "1.02:03:04"'
    )


def test_a_section_reads_every_notation_and_holds_one_type() -> None:
    section = SchedulingConfig(
        polling_delay="00:00:00.500", scheduler_retry_delays=["00:01:00", timedelta(hours=1), 0.5]
    )
    assert section.polling_delay == timedelta(milliseconds=500)
    assert list(section.scheduler_retry_delays) == [60, 3600, 0.5]
    assert hash(section) == hash(replace(section))


def test_the_configuration_is_frozen() -> None:
    config = load(environ={})
    with pytest.raises(FrozenInstanceError):
        config.scheduling.batch_size = 1  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        config.dsn = "x"  # type: ignore[misc]


@pytest.mark.parametrize("section", SECTION_NAMES)
@pytest.mark.parametrize(
    ("value", "kind"), [("x", "type str"), (5, "5"), (["x"], "type list"), (Config(), "type Config")]
)
def test_a_section_is_an_object_or_a_mapping(section: str, value: object, kind: str) -> None:
    message = refused(**{section: value})
    assert message.startswith(f"{section} (argument): ")
    assert kind in message
    assert f"allowed is a mapping or a {section.capitalize()}Config" in message


def test_a_section_of_another_kind_is_refused() -> None:
    assert "type ExecutionConfig; allowed is a mapping or a SchedulingConfig" in refused(scheduling=ExecutionConfig())


@pytest.mark.parametrize(
    ("section", "key", "hint"),
    [
        ("scheduling", "poling_delay", "did you mean polling_delay?"),
        ("scheduling", "pollingDelay", "did you mean polling_delay?"),
        ("scheduling", "polling-delay", "did you mean polling_delay?"),
        ("scheduling", "POLLING_DELAY", "did you mean POLLING"),
        ("scheduling", "PolingDelay", "did you mean PollingDelay?"),
        ("scheduling", "batch", "did you mean batch_size?"),
        ("scheduling", "max_retry_count", "max_retry_count is a key of the section execution"),
        ("scheduling", "MaxRetryCount", "MaxRetryCount is a key of the section Execution"),
    ],
)
def test_an_unknown_key_is_refused_with_a_suggestion_and_the_allowed_ones(section: str, key: str, hint: str) -> None:
    message = refused(**{section: {key: "a secret"}})
    assert message.startswith(f"{key!r} ({section}, argument): unknown key; ")
    assert hint.lower() in message.lower()
    assert "allowed are batch_size, polling_delay," in message or "allowed are BatchSize, PollingDelay," in message
    assert "a secret" not in message


def test_an_unknown_key_like_none_other_is_refused_without_a_suggestion() -> None:
    message = refused(persistence={"zzz": 1})
    assert message == "'zzz' (persistence, argument): unknown key; allowed are schema_name, prepared_statements"


@pytest.mark.parametrize("key", [5, None, ("a", "b")])
def test_a_key_that_is_no_text_is_refused(key: object) -> None:
    assert "unknown key" in refused(scheduling={key: 1})


def test_both_spellings_of_one_key_are_refused() -> None:
    message = refused(scheduling={"batch_size": 1, "BatchSize": 2})
    assert message == "'BatchSize' (scheduling, argument): is the same key as 'batch_size', which is there too"


def test_all_mistakes_are_reported_at_once() -> None:
    message = refused(
        dsn="", scheduling={"batch_size": 0}, execution={"thread": 1}, environ={"PERDURE_EXECUTION_THREADS": "many"}
    )
    first, *problems = message.splitlines()
    assert first == "4 settings can't be used:"
    assert [problem.split()[1] for problem in problems] == [
        "execution.threads",
        "dsn",
        "scheduling.batch_size",
        "'thread'",
    ]


@pytest.mark.parametrize("value", ["x" * 10_000, 10**10_000, ["x" * 50] * 50], ids=["text", "int", "list"])
def test_a_long_value_is_shortened_in_the_message(value: object) -> None:
    assert len(refused(scheduling={"batch_size": value})) < 250


def test_describe_lists_every_key_once_in_order() -> None:
    assert [row.key for row in load(environ={}).describe()] == list(VARIABLES.values())


def test_describe_shows_values_as_they_can_be_written_again() -> None:
    config = load(
        environ={},
        scheduling={"polling_delay": 0.5, "scheduler_retry_delays": [1, 2.5]},
        execution={"max_stall": timedelta(days=1, seconds=1)},
    )
    rows = {key: value for key, value, _ in config.describe()}
    assert rows["scheduling.polling_delay"] == "00:00:00.500"
    assert rows["scheduling.scheduler_retry_delays"] == [1, 2.5]
    assert rows["execution.max_stall"] == "1.00:00:01"
    sections: dict[str, Any] = {name: {} for name in SECTION_NAMES}
    for path, value in rows.items():
        if path != "dsn":
            section, key = path.split(".")
            sections[section][key] = value
    assert load(environ={}, **sections) == config


def test_a_config_made_by_hand_says_argument_of_what_it_was_given() -> None:
    rows = {row.key: row.origin for row in Config(dsn="host=db", scheduling=SchedulingConfig(batch_size=5)).describe()}
    assert rows["dsn"] == "argument"
    assert rows["scheduling.batch_size"] == "argument"
    assert rows["scheduling.polling_delay"] == "default"
