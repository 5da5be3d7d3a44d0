"""Bad input: whatever stands on the command line, in a settings file or in the environment: done, or said in a line.

Exit codes are 0, 1 or 2; no traceback, nothing that "should not have happened", no control of a terminal.
"""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perdure.config import load
from perdure.errors import ConfigError
from tests.cli.conftest import SHOP, CommandLine, Ended
from tests.support.tiers import SEED, TIER, count

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(3600 if TIER == "nightly" else 120)

_TEXTS = (
    "", " ", "-", "--", "-1", "0", "1", "9" * 30, "9" * 5_000, "1e400", "NaN", "null", "true", '"x"', "[]",
    "{}", "{", '{"shop": "riga"}', '{"a": NaN}', '{"a": 1e400}', '{"a": "\\u0000"}', '{"a": "\\ud800"}',
    "[" * 5_000 + "]" * 5_000, "\udce9", "\ud800", "é" * 70, "x" * 100_000,
    "'; drop table background_tasks.jobs; --", "%s %(x)s", "{schema}", "$$", "\x1b[2J", "a\nb", "\u202e",
    "2030-01-31T08:00Z", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00+23:59", "1.02:03:04",
    "99999999.00:00:00", "-00:00:01", "inf", "nan", "shop:app", "shop:nothing", "os:environ", "../shop:app",
    ":", "a:b:c", "postgresql://", "postgresql://[", "host=", "postgresql://u:p@h:x/d", "mysql://x", "__import__('os')",
    "${HOME}", "~",
)  # fmt: skip
# X stands for what is tried.
_COMMANDS = (
    "jobs list --name X", "jobs list --queue X", "jobs list --state X", "jobs list --metadata X",
    "jobs list --limit X", "jobs list --order X", "jobs list --output X", "jobs list --dsn X",
    "jobs list --app X", "jobs show X", "jobs watch X", "jobs watch 99 --interval X",
    "jobs start X null --execution-metadata null", "jobs start t X --execution-metadata null",
    "jobs start t null --execution-metadata X", "jobs start --app shop:app X",
    "jobs start --app shop:app orders.import X", "jobs start --app shop:app orders.wait --at X",
    "jobs start --app shop:app orders.wait --queue X", "jobs start --app shop:app orders.wait --priority X",
    "jobs start --app shop:app orders.wait --deadline X", "jobs proceed X", "jobs proceed 1 --at X",
    "jobs proceed 1 --unchecked --merge X", "jobs proceed 1 --app shop:app --merge X",
    "jobs send X --unchecked 1", "jobs send 1 --unchecked X", "jobs send 1 --app shop:app X", "jobs cancel X",
    "jobs cancel 1 X", "jobs retry X", "jobs retry 2 --afresh --execution-metadata X", "migrate X",
    "migrate --check --dsn X", "config X", "config --file X", "config --output X", "doctor X --output json",
    "graph shop:app X", "graph X t", "check-resume X", "worker X", "worker nothing:app --queues X",
    "worker nothing:app --concurrency X", "worker nothing:app --health X", "worker nothing:app --processes X", "X",
    "jobs X", "db X",
)  # fmt: skip
# With the right text these would serve, or wait for a job that nobody runs.
_WOULD_WORK = {"worker X", "worker nothing:app --processes X", "jobs watch X", "X"}
_VARIABLES = (
    "PERDURE_PERSISTENCE_SCHEMA_NAME", "PERDURE_SCHEDULING_BATCH_SIZE", "PERDURE_SCHEDULING_POLLING_DELAY",
    "PERDURE_SCHEDULING_SCHEDULER_RETRY_COUNT", "PERDURE_SCHEDULING_SCHEDULER_RETRY_DELAYS",
    "PERDURE_EXECUTION_LEASE_DURATION", "PERDURE_EXECUTION_MAX_PAYLOAD_BYTES", "PERDURE_EXECUTION_CONCURRENCY",
)  # fmt: skip


@pytest.fixture
def perdure(tmp_path: Path, migrated_database: str) -> CommandLine:
    """The command line in a folder with an app, on a database with two jobs."""
    (tmp_path / "shop.py").write_text(SHOP, encoding="utf-8")
    perdure = CommandLine(tmp_path, {"PERDURE_DSN": migrated_database})
    for _ in range(2):
        assert perdure.inside("jobs", "start", "--app", "shop:app", "orders.approve").code == 0
    assert perdure.inside("jobs", "cancel", "2").code == 0
    return perdure


def _check(ended: Ended, what: object) -> None:
    assert ended.code in {0, 1, 2}, (what, ended)
    for unwanted in ("Traceback", "should not have happened", "\x1b", "\u202e"):
        assert unwanted not in ended.err, (what, ended.err[:2_000])
    assert ended.code == 0 or ended.err or ended.out, what


def test_every_command_with_every_text(perdure: CommandLine) -> None:
    tries = [(command, text) for command in _COMMANDS for text in _TEXTS]
    for command, text in random.Random(SEED).sample(tries, count(push=250, nightly=len(tries))):
        arguments = [text if word == "X" else word for word in command.split()]
        if command in _WOULD_WORK and text in {"shop:app", "1", "-", " "}:
            continue
        _check(perdure.inside(*arguments), (command, text[:60]))
    with psycopg.connect(perdure.environment["PERDURE_DSN"]) as connection:
        assert connection.execute("select count(*) from background_tasks.jobs").fetchone() is not None


def test_every_variable_with_every_text(perdure: CommandLine) -> None:
    # A lone surrogate of this kind is what no environment can hold.
    tries = [(variable, text) for variable in _VARIABLES for text in _TEXTS if "\ud800" not in text]
    for variable, text in random.Random(SEED).sample(tries, count(push=60, nightly=len(tries))):
        _check(perdure.inside("config", **{variable: text}), (variable, text[:60]))


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(_TEXTS),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["BatchSize", "schema_name"]), inner),
    max_leaves=8,
)
_sections = st.sampled_from(
    ["dsn", "Dsn", "persistence", "Persistence", "scheduling", "Scheduling", "execution", "Execution", "BatchSize", "x"]
)
_keys = st.sampled_from(
    [
        "schema_name",
        "SchemaName",
        "batch_size",
        "polling_delay",
        "PollingDelay",
        "scheduler_retry_delays",
        "threads",
        "y",
    ]
)


@settings(max_examples=count(push=30, nightly=10_000), suppress_health_check=list(HealthCheck))
@given(data=st.dictionaries(_sections, _values | st.dictionaries(_keys, _values)))
def test_any_json_of_settings(tmp_path_factory: pytest.TempPathFactory, data: object) -> None:
    file = tmp_path_factory.getbasetemp() / "fuzzed.json"
    file.write_text(json.dumps(data), encoding="utf-8")
    _load(file)


@settings(max_examples=count(push=30, nightly=10_000), suppress_health_check=list(HealthCheck))
@given(
    data=st.binary() | st.text().map(str.encode) | st.sampled_from([text.encode(errors="replace") for text in _TEXTS])
)
@pytest.mark.parametrize("suffix", ["toml", "json"])
def test_any_bytes_as_a_file_of_settings(tmp_path_factory: pytest.TempPathFactory, data: bytes, suffix: str) -> None:
    file = tmp_path_factory.getbasetemp() / f"fuzzed.{suffix}"
    file.write_bytes(data)
    _load(file)


@settings(max_examples=count(push=30, nightly=10_000), suppress_health_check=list(HealthCheck))
@given(key=_keys, value=_values | st.binary() | st.timedeltas())
def test_any_argument_of_the_configuration(key: str, value: object) -> None:
    for section in ("persistence", "scheduling", "execution"):
        try:
            load(**{section: {key: value}})  # type: ignore[arg-type]
        except ConfigError as error:
            _check_message(error)


def _load(file: Path) -> None:
    try:
        load(file=file)
    except ConfigError as error:
        _check_message(error)


def _check_message(error: ConfigError) -> None:
    # All mistakes are told at once; each in a line that isn't endless.
    assert 0 < max(map(len, str(error).splitlines())) < 1_500
