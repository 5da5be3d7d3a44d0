"""What the health endpoint answers, where no process can be brought to it: time that is lost, a thread that ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from perdure.worker.vitals import Vitals

if TYPE_CHECKING:
    from perdure.worker.worker import Worker


class Pulseless:
    """A worker whose heartbeat has ended."""

    has_pulse = False


def test_a_loop_that_stands_still_is_live_for_half_of_what_it_may() -> None:
    vitals = Vitals(max_stall_seconds=10)
    for _look in range(11):
        assert vitals.live() == (True, "the event loop turns")
        vitals.look(0.5)
    assert vitals.live() == (False, "the event loop hasn't turned for 6 s: a handler blocks it")


def test_a_turn_makes_it_live_again() -> None:
    vitals = Vitals(max_stall_seconds=10)
    for _look in range(20):
        vitals.look(0.5)
    assert not vitals.live().is_well
    vitals.turned()
    vitals.look(0.5)
    assert vitals.live().is_well


def test_without_the_thread_that_renews_the_lease_it_is_not_live_unless_it_stops() -> None:
    vitals = Vitals(max_stall_seconds=10)
    vitals.worker = cast("Worker", Pulseless())
    assert vitals.live() == (False, "the thread that renews the lease has ended")
    vitals.stopping = True
    assert vitals.live().is_well
