"""What costs much is done seldom, but it is done."""

from __future__ import annotations

import pytest

from perdure.worker.pace import rest_seconds


@pytest.mark.parametrize(
    ("took_seconds", "rest"),
    [(0.0, 2.0), (0.02, 2.0), (0.25, 25.0), (0.5, 50.0), (0.6, 60.0), (100.0, 60.0)],
)
def test_a_look_takes_a_hundredth_of_the_time_at_most(took_seconds: float, rest: float) -> None:
    assert rest_seconds(took_seconds, least=2.0, most=60.0) == pytest.approx(rest)
