"""The soak's verdict: flat is what stays within its bound, and each measure that grows is named."""

from __future__ import annotations

import msgspec
import pytest

from tests.soak.samples import BOUNDS, Sample, judge


def _samples(**growth: float) -> list[Sample]:
    """A hundred samples, of which some measures double in the middle."""
    usual = {"memory": 80 << 20, "descriptors": 30, "threads": 20, "connections": 40, "live": 8 << 20, "kept": 900.0}
    usual["checker"] = 200 << 20
    samples: list[Sample] = []
    for number in range(100):
        values = {name: value * (growth.get(name, 1) if number > 50 else 1) for name, value in usual.items()}
        wobble = 1 + (number % 3) * 0.01
        data = {name: type(usual[name])(value * wobble) for name, value in values.items()}
        samples.append(msgspec.convert({"what": "sample", "at": number * 36.0, "ended": number * 100, **data}, Sample))
    return samples


def test_what_stays_as_it_is_is_flat() -> None:
    verdict = judge(_samples())
    assert (verdict.flat, verdict.grown, round(verdict.jobs_an_hour)) == (True, [], 10_000)


@pytest.mark.parametrize("name", BOUNDS)
def test_what_doubles_is_named(name: str) -> None:
    verdict = judge(_samples(**{name: 2}))
    assert (verdict.flat, verdict.grown) == (False, [name])


def test_too_few_samples_are_no_verdict() -> None:
    with pytest.raises(ValueError, match="too few"):
        judge(_samples()[:3])
