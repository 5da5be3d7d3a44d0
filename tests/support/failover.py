"""A primary and its standby: how far the standby is, to cut it off, to promote it, and a dsn that finds who writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg

from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from tests.support.cluster import Cluster

__all__ = ["cut_off", "dsn_of_both", "make_synchronous", "promote", "take_address", "wait_until_replicated"]


def dsn_of_both(primary: Cluster, standby: Cluster, database: str) -> str:
    """Return a dsn by which a client finds the one of the two that writes."""
    hosts = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
    return f"postgresql://postgres@{hosts}/{database}?target_session_attrs=read-write&connect_timeout=2"


def wait_until_replicated(primary: Cluster, standby: Cluster) -> None:
    """Wait until the standby has replayed what the primary has written by now."""
    (written,) = _ask(primary, "select pg_current_wal_lsn()::text")
    query = f"select pg_last_wal_replay_lsn() >= '{written}'"
    wait_until(lambda: bool(_ask(standby, query)[0]), "the standby doesn't keep up")


def make_synchronous(primary: Cluster, standby: Cluster) -> None:
    """Let the primary acknowledge only what the standby has, too; wait until that is so."""
    _ask(primary, "alter system set synchronous_standby_names = '*'")
    _ask(primary, "select pg_reload_conf()")
    query = f"select sync_state from pg_stat_replication where application_name = '{standby.folder.name}'"
    wait_until(lambda: _ask(primary, query) == ("sync",), "the standby isn't synchronous")


def cut_off(standby: Cluster) -> None:
    """Let the standby get nothing any more: what its primary writes from now on it will never have."""
    _ask(standby, "alter system set primary_conninfo = ''")
    _ask(standby, "select pg_reload_conf()")
    wait_until(lambda: _ask(standby, "select count(*) from pg_stat_wal_receiver") == (0,), "the standby still receives")


def promote(standby: Cluster) -> None:
    """Make it a primary, and wait until it writes."""
    assert _ask(standby, "select pg_promote(true, 60)") == (True,)


def take_address(standby: Cluster, primary: Cluster) -> None:
    """Start the promoted standby where the dead primary was: whoever asks for that address gets this server."""
    standby.stop()
    standby.port = primary.port
    standby.start()


def _ask(cluster: Cluster, query: str) -> tuple[Any, ...]:
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        cursor = connection.execute(query.encode())
        return (cursor.fetchone() or ()) if cursor.description else ()
