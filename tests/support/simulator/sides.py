"""Two sides, a model and a real PostgreSQL: a statement runs on both, and both must say, and hold, the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import errors

from perdure.store import calls
from perdure.store.sessions import PLANNER
from tests.support.simulator.leases import Model
from tests.support.simulator.model import Blocked, FenceError, Tx
from tests.support.simulator.tables import rows_of_database, rows_of_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from perdure.store.calls import Call
    from tests.store.workbench import Workbench

__all__ = ["TRANSACTIONS", "Differs", "Sides"]

TRANSACTIONS = 2
_WAITS_MILLISECONDS, _PATIENT_MILLISECONDS = 20, 10_000


class Differs(AssertionError):
    """The model and the database don't say the same."""


class Sides:
    """Both, side by side. `place` names an open transaction; None is a statement by itself.

    Attributes:
        model: The model.
        workers: The ids of all workers so far.
        done: What has been done, to be shown when it differs.
    """

    def __init__(self, bench: Workbench) -> None:
        bench.connection.execute("set lock_timeout = 0")
        bench.clear()
        self.model = Model()
        self.workers: list[UUID] = []
        self.done: list[str] = []
        self._bench = bench
        self._names = bench.names
        self._connections = [bench.connect() for _ in range(TRANSACTIONS)]
        self._open: list[Tx | None] = [None] * TRANSACTIONS
        for connection in (bench.connection, *self._connections):
            # As a lane has it: which plan is taken tells what is locked. And nothing depends on what survives a crash.
            for name, value in (PLANNER | {"synchronous_commit": "off"}).items():
                connection.execute(f"set {name} = '{value}'".encode())

    def close(self) -> None:
        """End what is open, and the connections."""
        for connection in self._connections:
            connection.rollback()  # by the time it is answered, the locks are gone
            connection.close()

    def begin(self, place: int) -> Tx:
        """Return the open transaction, begun if need be."""
        tx = self._open[place]
        if tx is None:
            self._connections[place].execute("begin")
            tx = self._open[place] = Tx(self.model)
        return tx

    def end(self, place: int, *, commits: bool) -> None:
        """Commit or roll back, if a transaction is open there."""
        tx, self._open[place] = self._open[place], None
        if tx is None:
            return
        connection = self._connections[place]
        if commits:
            connection.commit()
            tx.commit()
        else:
            connection.rollback()
            tx.roll_back()
        self._done(f"{'commit' if commits else 'roll back'} {place}")

    # --- both

    def _both(
        self,
        place: int | None,
        what: str,
        real: Call[Any] | Callable[[psycopg.Connection[Any]], Any],
        modelled: Callable[[Tx | None], Any],
        *,
        compares: bool = True,
    ) -> Any:
        """Run a statement on both; where one blocks, or refuses, so must the other."""
        self.done.append(what if place is None else f"{what} (in transaction {place})")
        expected = self._modelled(place, modelled)
        answer = self._real(place, real, waits=expected is Blocked)
        if answer != expected:
            why = f"the database answers {answer!r}, the model {expected!r}"
            raise self._differs(why)
        if expected in (Blocked, FenceError):
            if place is not None:
                self.end(place, commits=False)
            return []
        if compares:
            self._compare()
        return answer

    def _modelled(self, place: int | None, modelled: Callable[[Tx | None], Any]) -> Any:
        try:
            return modelled(None if place is None else self.begin(place))
        except (Blocked, FenceError) as error:
            return type(error)

    def _real(
        self, place: int | None, real: Call[Any] | Callable[[psycopg.Connection[Any]], Any], *, waits: bool
    ) -> Any:
        connection = self._bench.connection
        if place is not None:
            self.begin(place)
            connection = self._connections[place]
        # Long enough to be sure that it doesn't wait; or short, where it is to wait.
        connection.execute(f"set lock_timeout = {_WAITS_MILLISECONDS if waits else _PATIENT_MILLISECONDS}".encode())
        try:
            return real(connection) if callable(real) else calls.run_blocking(connection, real)
        except errors.LockNotAvailable:
            return Blocked
        except psycopg.Error as error:
            if error.sqlstate != "PD001":
                raise
            return FenceError

    def _newest_event(self, place: int | None) -> int:
        connection = self._bench.connection if place is None else self._connections[place]
        schema = self._names.statements.fill("{schema}", parametrised=False)
        row = connection.execute(f"select coalesce(max(id), 0) from {schema}.events".encode()).fetchone()
        assert row is not None
        found: int = row[0]
        return found

    def _compare(self) -> None:
        hidden = self.model.locked_ids()
        expected, found = rows_of_model(self.model, hidden), rows_of_database(self._bench, hidden)
        if found != expected:
            lines = [
                f"  {key}: the database has {found.get(key)}, the model {expected.get(key)}"
                for key in sorted(found.keys() | expected.keys())
                if found.get(key) != expected.get(key)
            ]
            raise self._differs("\n".join(["the rows differ:", *lines]))

    def _differs(self, why: str) -> Differs:
        return Differs("\n".join([why, "after:", *(f"  {number}. {what}" for number, what in enumerate(self.done, 1))]))

    def _done(self, what: str) -> None:
        self.done.append(what)
        self._compare()

    def _name(self, worker: UUID) -> str:
        return f"worker {self.workers.index(worker)}" if worker in self.workers else str(worker)
