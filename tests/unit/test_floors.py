"""Where claims begin to look: close behind what was taken, a little way back now and then, everywhere in time."""

from __future__ import annotations

from perdure.store.claims import EVERYWHERE, Claimed, Floor, Front
from perdure.worker.floors import Floors


def job(job_id: int, at_seconds: float, queue: str = "default", priority: int = 0) -> Claimed:
    return Claimed(job_id, "t", 1, 1, 0, 0, 0, 0, queue, b"", b"", priority, at_seconds, 0, 1, None)


def choose(floors: Floors, now_seconds: float) -> Front | None:
    """Return where the next claim begins; None is everywhere."""
    front = floors.choose(now_seconds, may_look_everywhere=True)
    return None if front is EVERYWHERE else front


def known(floors: Floors, now_seconds: float) -> list[Floor]:
    front = choose(floors, now_seconds)
    assert front is not None
    return list(front.floors)


def begun() -> Floors:
    floors = Floors()
    assert choose(floors, 100.0) is None  # the first looks everywhere
    choose(floors, 100.0)  # and the next a little way back
    return floors


def test_a_claim_begins_at_the_lowest_position_that_the_last_four_reached() -> None:
    floors = begun()
    for at_seconds in (50.0, 10.0, 20.0, 30.0, 40.0):
        floors.claimed([job(1, 5.0), job(int(at_seconds), at_seconds)])
    (floor,) = known(floors, 100.0)
    assert (floor.queue, floor.priority, floor.id) == ("default", 0, 10)
    assert 9.99 < floor.at_seconds < 10.0  # floats are only so exact: never behind a job that wasn't seen


def test_each_band_has_a_floor_of_its_own() -> None:
    floors = begun()
    floors.claimed([job(1, 10.0), job(2, 20.0, "mail"), job(3, 30.0, "mail", 5)])
    assert {(floor.queue, floor.priority, floor.id) for floor in known(floors, 100.0)} == {
        ("default", 0, 1),
        ("mail", 0, 2),
        ("mail", 5, 3),
    }


def test_every_fifth_of_a_second_it_looks_a_second_back() -> None:
    floors = begun()
    floors.claimed([job(7, 10.0)])
    assert known(floors, 100.1)[0].id == 7
    (floor,) = known(floors, 100.2)
    assert floor == Floor("default", 0, 9.0 - 1e-6, 0)
    assert known(floors, 100.3)[0].id == 7


def test_it_looks_everywhere_after_a_minute_at_the_latest() -> None:
    floors = begun()
    floors.claimed([job(7, 10.0)])
    floors.looked_everywhere(90.0, 100.0)
    assert choose(floors, 159.9)
    assert choose(floors, 160.0) is None
    assert choose(floors, 160.1)


def test_looking_everywhere_takes_a_hundredth_of_the_time_at_most() -> None:
    floors = begun()
    floors.claimed([job(7, 10.0)])
    floors.looked_everywhere(99.96875, 100.0)
    assert choose(floors, 103.0)
    assert choose(floors, 103.125) is None
    floors.looked_everywhere(102.875, 103.125)
    assert choose(floors, 128.0)
    assert choose(floors, 128.125) is None


def test_what_is_put_back_while_it_looks_everywhere_is_looked_for_as_soon_as_that_is_over() -> None:
    floors = begun()
    floors.look_everywhere()
    assert choose(floors, 103.0) is None
    floors.look_everywhere()
    assert floors.choose(103.1, may_look_everywhere=False) is not EVERYWHERE  # the other lane's
    floors.looked_everywhere(103.0, 103.7)
    assert choose(floors, 103.7) is None
    floors.looked_everywhere(103.7, 104.2)
    assert floors.everywhere_in_seconds(104.2) > 49


def test_it_looks_everywhere_a_little_later_when_another_lane_does_something_of_the_kind() -> None:
    floors = begun()
    floors.claimed([job(7, 10.0)])
    floors.look_everywhere()
    assert floors.choose(100.0, may_look_everywhere=False) is not EVERYWHERE
    assert 0 < floors.everywhere_in_seconds(100.0) <= 0.1  # else its worker would claim again and again meanwhile
    assert choose(floors, 100.1) is None


def test_it_says_how_long_until_it_looks_everywhere() -> None:
    floors = begun()
    assert floors.everywhere_in_seconds(103.0) == 2.0
    assert floors.everywhere_in_seconds(106.0) == 0.0


def test_what_was_put_back_or_passed_by_is_looked_for_at_once() -> None:
    floors = begun()
    floors.claimed([job(7, 10.0)])
    floors.look_back()
    assert known(floors, 100.0)[0].id == 0
    floors.look_everywhere()
    assert choose(floors, 100.0) is None


def test_bands_of_which_nothing_was_claimed_begin_where_all_was_taken_by_then() -> None:
    floors = begun()
    floors.took_all(30.0)
    floors.claimed([job(9, 40.0)])
    front = choose(floors, 100.1)
    assert front is not None
    # A second before, always: for commits that were on their way. There are no earlier claims to allow for them.
    assert ([floor.queue for floor in front.floors], front.others_at_seconds) == (["default"], 29.0)
    back = choose(floors, 100.3)
    assert back is not None
    assert back.others_at_seconds == 28.0


def test_it_comes_down_when_the_clock_was_set_back() -> None:
    floors = begun()
    floors.claimed([job(7, 1000.0)])
    floors.took_all(1001.0)
    floors.look_everywhere()
    assert choose(floors, 100.0) is None
    floors.claimed([job(8, 500.0)])  # started since
    floors.took_all(501.0)
    front = choose(floors, 100.1)
    assert front is not None
    assert ([floor.id for floor in front.floors], front.others_at_seconds) == ([8], 500.0)
