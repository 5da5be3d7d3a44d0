"""What a worker's own work doesn't depend on: threads of others, a fast network, a lease that is no longer its own."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

__all__ = ["RESOURCES"]

_THREADS = "tests/worker/test_full_executor.py::"
_AGAIN = f"{_THREADS}test_a_worker_connects_again_to_a_host_that_has_a_name"
_SLOW = "tests/faults/network/test_slow.py::"
_CLAIMS = "tests/store/test_claim_leases.py::test_nothing_is_claimed_under_a_lease_that"


def _claim_without(statement: str, condition: str, replacement: str, loss: str) -> Mutant:
    return Mutant(
        f"{statement} under a lease that {loss}",
        "a worker that doesn't know of its loss takes the same jobs again and again, until they are failed as lost",
        f"store/queries/{statement}.sql",
        condition,
        replacement,
        (f"{_CLAIMS}[18-{statement}-{loss}]",),
    )


RESOURCES = (
    *(
        mutant
        for statement in ("claim", "claim_band", "claim_suspect")
        for mutant in (
            _claim_without(statement, " and lapsed_at is null and lease", " and lease", "is marked as lapsed"),
            _claim_without(statement, " and lease_until > clock_timestamp()", "", "has run out"),
        )
    ),
    Mutant(
        "a stop waits for a thread of the default executor",
        "a worker whose handlers hold them all never ends",
        "worker/worker.py",
        "        await self._heartbeat.stop()\n",
        "        await asyncio.to_thread(str)\n        await self._heartbeat.stop()\n",
        (f"{_THREADS}test_a_worker_stops_and_its_app_closes",),
    ),
    Mutant(
        "an app's closing waits for a thread of the default executor",
        "the same",
        "app.py",
        "            await in_own_thread(self._close_blocking, _CLOSES)\n",
        "            await asyncio.to_thread(self._close_blocking)\n",
        (f"{_THREADS}test_a_worker_stops_and_its_app_closes",),
    ),
    Mutant(
        "lanes look hosts up in the default executor",
        "a worker whose handlers hold all its threads keeps its lease and can't connect again",
        "store/sessions.py",
        "            await resolved(dsn),\n",
        "            dsn,\n",
        (f"{_AGAIN}[perdure worker]",),
    ),
    Mutant(
        "the listener looks hosts up in the default executor",
        "a worker whose handlers hold all its threads hears no notification",
        "store/notify.py",
        "            await resolved(self._dsn),\n",
        "            self._dsn,\n",
        (f"{_AGAIN}[perdure listener]",),
    ),
    Mutant(
        "what is too large for a lease is sent again as it is",
        "an overload that has passed lasts for ever: no outcome is written any more",
        "worker/desk.py",
        "max(LEAST_BATCH_BYTES, min(self._room_bytes, batch.size_bytes) // 2)",
        "self._room_bytes",
        (f"{_SLOW}test_outcomes_that_are_too_large_together_for_a_lease_are_written_one_after_the_other",),
    ),
    Mutant(
        "batches stay small",
        "after one outage a worker writes its outcomes a few at a time",
        "worker/desk.py",
        "self._room_bytes + self._room_bytes // 4)",
        "self._room_bytes)",
        ("tests/worker/test_desk.py::test_a_batch_that_got_stuck_makes_the_next_smaller_and_what_gets_through_larger",),
    ),
    Mutant(
        "news of an older claim makes a newer one look done",
        "a job whose outcome waits to be written is taken for a stray, given back and run again",
        "worker/desk.py",
        "            if settling.get(entry.id) == entry.claim:\n",
        "            if entry.id in settling:\n",
        ("tests/worker/test_desk.py::test_news_of_an_older_claim_doesnt_make_a_newer_one_look_done",),
    ),
    Mutant(
        "a value that can't be compared goes its own way",
        "its error isn't one of a payload, and the attempt stays running for ever",
        "core/codec/codec.py",
        "        except Exception as error:  # noqa: BLE001 - of the user's code: a value whose `==` raises, for one\n"
        "            return Misfit.of(error)\n",
        "",
        ("tests/unit/test_codec_refusals.py::test_a_value_that_cant_even_be_compared_is_refused_as_any_other",),
    ),
)
