"""Passwords are never shown: not by describe(), repr, errors, tracebacks; not of mistyped connection strings either."""

from __future__ import annotations

import copy
import pickle
import traceback
from dataclasses import replace
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from perdure.config import Config, PersistenceConfig, load
from perdure.config.dsn import Dsn, hide_passwords, read_dsn
from perdure.errors import ConfigError

SECRET = "s3cr3t"

READABLE = [
    (f"postgresql://ann:{SECRET}@db.example:5432/shop", "postgresql://ann:***@db.example:5432/shop"),
    (f"postgres://ann:{SECRET}@db.example", "postgres://ann:***@db.example"),
    (f"postgresql://:{SECRET}@/shop?host=/tmp", "postgresql://:***@/shop?host=/tmp"),
    (f"postgresql://db.example/shop?user=ann&password={SECRET}", "postgresql://db.example/shop?user=ann&password=***"),
    (f"postgresql://db/shop?password={SECRET}&sslmode=require", "postgresql://db/shop?password=***&sslmode=require"),
    (f"postgresql://db/shop?sslpassword={SECRET}&user=ann", "postgresql://db/shop?sslpassword=***&user=ann"),
    (f"postgresql://ann:x{SECRET}@{SECRET}@db/shop", "postgresql://ann:***@db/shop"),
    (f"postgresql://ann:a?{SECRET}@db/shop", "postgresql://ann:***@db/shop"),
    (f"postgresql://ann:a\n{SECRET}@db/shop", "postgresql://ann:***@db/shop"),
    (f"host=db user=ann password={SECRET} dbname=shop", "host=db user=ann password=*** dbname=shop"),
    (f"host=db password = '{SECRET} and \\' {SECRET}' dbname=shop", "host=db password = *** dbname=shop"),
    (f"password=a\\ {SECRET} host=db", "password=*** host=db"),
    (f"password=a://b:{SECRET} host=db", "password=*** host=db"),
    (f"password=***{SECRET} host=db", "password=*** host=db"),
    (f"sslpassword={SECRET} password={SECRET}", "sslpassword=*** password=***"),
]

UNREADABLE = [
    f"host=db password=two {SECRET}",
    f"host=db password='{SECRET}",
    f"postgresql://ann:{SECRET}%zz@db/shop",
    f"postgresql://ann:a/{SECRET}@db/shop",
    f"postgresql://ann:{SECRET}@db:port/shop",
    f"postgresql+psycopg://ann:{SECRET}@db/shop",
    f"jdbc:postgresql://db/shop?password={SECRET}",
    f"mysql://ann:{SECRET}@db/shop",
    f"host=db pasword={SECRET}",
    f"host=db password=two {SECRET}=1",
    f"postgresql://db/shop?pasword={SECRET}",
    f"postgresql://ann:{SECRET}@db/\0",
    f"postgresql://ann:{SECRET}\ud800@db/",
    SECRET,
]


@pytest.mark.parametrize(("dsn", "masked"), READABLE)
def test_a_connection_string_is_shown_with_its_passwords_masked(dsn: str, masked: str) -> None:
    config = load(dsn=dsn, environ={})
    assert config.describe()[0] == ("dsn", masked, "argument")
    for shown in (repr(config), repr(config.dsn), f"{config}", f"{config.dsn!r}", repr(vars(config))):
        assert SECRET not in shown


@pytest.mark.parametrize(("dsn", "masked"), READABLE)
def test_the_connection_string_itself_is_unchanged(dsn: str, masked: str) -> None:
    config = load(dsn=dsn, environ={})
    assert config.dsn == dsn
    assert f"{config.dsn}" == dsn


@pytest.mark.parametrize("dsn", UNREADABLE)
def test_an_unreadable_connection_string_is_refused_without_showing_any_of_it(dsn: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(dsn=dsn, environ={})
    message = str(caught.value)
    assert message.startswith("dsn (argument): the value (not shown, since it may hold a password) is not allowed (")
    assert 'allowed is a connection string such as "postgresql://' in message
    assert SECRET not in message
    # The frames' source lines are this test's own; only what the exceptions say counts.
    assert SECRET not in "".join(traceback.format_exception_only(caught.value))
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("dsn", "reason"),
    [
        ("", "it is empty"),
        ("  ", "it is empty"),
        ("postgresql+psycopg://db/shop", "a URL begins with postgresql://"),
        ("host=db pasword=x", "it has no option pasword; did you mean password?"),
        ("postgresql://db/shop?sslmod=require", "it has no option sslmod; did you mean sslmode?"),
        ("postgresql://ann:a/b@db/shop", "its port is no number; in a URL's password, / is written %2F"),
        ("host=db port=12a", "its port is no number"),
        ("host=db dbname", "libpq can't read it"),
        ("postgresql://db/\0", "NUL"),
        ("postgresql://db/\ud800", "libpq can't read it"),
    ],
)
def test_an_unreadable_connection_string_is_refused_with_the_reason(dsn: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(environ={"PERDURE_DSN": dsn})
    assert reason in str(caught.value)
    assert str(caught.value).startswith("dsn (PERDURE_DSN): ")


@pytest.mark.parametrize(
    "dsn", ["host=a,b port=5432,5433", "host=a,b port=,", "service=shop", "postgresql://", "dbname=x"]
)
def test_what_libpq_takes_is_taken(dsn: str) -> None:
    assert load(dsn=dsn, environ={}).dsn == dsn


def test_spaces_around_a_connection_string_are_not_part_of_it() -> None:
    assert load(environ={"PERDURE_DSN": " postgresql://db/shop\n"}).dsn == "postgresql://db/shop"


def test_a_keyword_in_disguise_hides_the_whole_string() -> None:
    dsn = Dsn(f"postgresql://db/shop?pass%77ord={SECRET}")
    assert conninfo_to_dict(dsn)["password"] == SECRET
    assert dsn.masked == "(not shown, since it may hold a password)"


@given(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1).map(lambda text: f"<{text}>")
)
def test_any_password_that_is_written_properly_is_masked(password: str) -> None:
    pairs = make_conninfo(host="db", password=password, dbname="shop")
    assert conninfo_to_dict(read_dsn(pairs).masked) == {"host": "db", "password": "***", "dbname": "shop"}
    for url in (
        f"postgresql://ann:{quote(password, safe='')}@db/shop",
        f"postgresql://db?password={quote(password, safe='')}",
    ):
        assert conninfo_to_dict(read_dsn(url))["password"] == password
        assert conninfo_to_dict(read_dsn(url).masked)["password"] == "***"


@given(st.text())
def test_hiding_twice_is_hiding_once(text: str) -> None:
    dsn = f"postgresql://ann:{text}@db?password=1"
    assert hide_passwords(hide_passwords(dsn)) == hide_passwords(dsn)


def test_a_copied_pickled_or_replaced_config_stays_masked() -> None:
    config = load(dsn=READABLE[0][0], environ={}, scheduling={"batch_size": 7})
    for other in (copy.deepcopy(config), pickle.loads(pickle.dumps(config)), replace(config)):  # noqa: S301 - our own
        assert other == config
        assert other.dsn == READABLE[0][0]
        assert SECRET not in repr(other)
        assert other.describe() == config.describe()


def test_a_config_made_by_hand_is_masked_and_checked() -> None:
    assert SECRET not in repr(Config(dsn=READABLE[0][0]))
    with pytest.raises(ConfigError, match=r"dsn \(argument\): the value \(not shown"):
        Config(dsn=UNREADABLE[0])


@pytest.mark.parametrize("dsn", [dsn for dsn, _ in READABLE])
def test_a_connection_string_in_the_wrong_place_is_masked_too(dsn: str) -> None:
    for arguments in (
        {"scheduling": {"batch_size": dsn}},
        {"scheduling": {"scheduler_retry_delays": [dsn]}},
        {"execution": {"lease_duration": dsn}},
        {"execution": {"lease_duration": {"dsn": dsn}}},
        {"scheduling": dsn},
        {"persistence": {"password": SECRET}},
        {"persistence": {"schema_name": dsn * 9}},
    ):
        with pytest.raises(ConfigError) as caught:
            load(environ={}, **arguments)
        assert SECRET not in str(caught.value)


def test_a_section_made_by_hand_masks_too() -> None:
    with pytest.raises(ConfigError) as caught:
        PersistenceConfig(schema_name=READABLE[0][0] * 9)
    assert SECRET not in str(caught.value)
