"""Workers, clients and faults over the model of the store, in orders that seeds draw: no invariant breaks.

And the simulator itself is tested: a guard that is left out, or a rule that isn't kept, is found.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tests.support.simulator.ledger import Broken, Ledger
from tests.support.simulator.people import VERBS
from tests.support.simulator.process import LEASE_SECONDS, Process
from tests.support.simulator.runs import NOTHING, find, rest, run
from tests.support.simulator.scheduler import FAULTS, Stuck, World
from tests.support.tiers import TIER, count, seeds

pytestmark = pytest.mark.timeout(1800)  # it only computes: on a busy machine that takes its time

_RUNS = count(push=1_000, nightly=25_000)

# What is left out, and within how many runs that is found at the latest.
MUTANTS = {
    "claim": 10_000,
    "worker": 10_000,
    "checkpoint": 1_000,
    "lease": 1_000,
    "cancel": 5_000,
    "proceed": 1_000,
    "finish cancel": 5_000,
    "put back cancel": 5_000,
    "put back attempt": 1_000,
    "claim number": 1_000,
    "consume": 1_000,
    "take number": 10_000,
    "lapses": 5_000,
    "cancel state": 1_000,
    "proceed running": 1_000,
    "send locks": 1_000,
    "wake unread": 1_000,
    "looks before it suspends": 5_000,
    "decides once": 1_000,
    "guessed commit": 5_000,
    "reused ids": 1_000,
}
RARE = {"release locks": 50_000, "keeps what is lost": 100_000, "renew": 100_000, "sweep": 200_000, "progress": 50_000}


@pytest.mark.parametrize("seed", seeds("test_no_invariant_breaks", push=4, nightly=16))
def test_no_invariant_breaks(seed: int) -> None:
    found = find(_RUNS, first=seed * 1_000_000)
    if found is not None:
        run(found[0], traces=True)  # raises, with all its steps
    assert found is None


@pytest.mark.parametrize("guard", MUTANTS)
def test_what_is_left_out_is_found(guard: str) -> None:
    assert find(MUTANTS[guard], broken=[guard]) is not None


@pytest.mark.skipif(TIER == "push", reason="takes some hundred thousand runs: make faults")
@pytest.mark.parametrize("guard", RARE)
def test_what_is_left_out_and_hardly_ever_matters_is_found_at_last(guard: str) -> None:
    assert find(RARE[guard], broken=[guard]) is not None


def test_a_run_is_repeated_by_its_seed() -> None:
    found = find(MUTANTS["checkpoint"], broken=["checkpoint"])
    assert found is not None
    notes = []
    for _ in range(2):
        with pytest.raises((Broken, Stuck), match=found[1][:20]) as caught:
            run(found[0], broken=["checkpoint"], traces=True)
        notes.append(caught.value.__notes__)
    assert notes[0] == notes[1]
    assert "claim by w" in notes[0][1]


class Steps(RuleBasedStateMachine):
    """The same, with every step and every fault drawn by hypothesis: so a finding is shrunk to its fewest steps."""

    broken: frozenset[str] = frozenset()

    @initialize(workers=st.integers(1, 2), chance=st.integers(0, 1000))
    def begin(self, workers: int, chance: int) -> None:
        """One job, and its workers."""
        self.world = World(random.Random(chance), broken=self.broken, traces=True)
        self.ledger = Ledger(self.world)
        self.world.model.start(1, data=NOTHING)
        for number in range(workers):
            Process(self.world, self.ledger, f"w{number}")

    def _process(self, which: int) -> Process | None:
        able = [process for process in self.world.processes if process.is_alive and process.frozen_until is None]
        return able[which % len(able)] if able else None

    @rule(which=st.lists(st.integers(0, 9), min_size=1, max_size=8))
    def steps(self, which: list[int]) -> None:
        for one in which:
            if runnable := self.world.runnable():
                self.world.perform(runnable[one % len(runnable)])

    @rule(which=st.integers(0, 9), fault=st.sampled_from(FAULTS))
    def fault(self, which: int, fault: str) -> None:
        if runnable := self.world.runnable():
            self.world.perform(runnable[which % len(runnable)], fault)

    @rule(verb=st.sampled_from(sorted(VERBS)))
    def ask(self, verb: str) -> None:
        self.world.add(f"client, {verb}", VERBS[verb](self.world, self.ledger, 1))

    @rule(seconds=st.sampled_from([1.0, 3.0, LEASE_SECONDS]))
    def pass_time(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @rule(which=st.integers(0, 2), seconds=st.sampled_from([LEASE_SECONDS, LEASE_SECONDS * 2]))
    def freeze(self, which: int, seconds: float) -> None:
        if (process := self._process(which)) is not None:
            process.freeze(seconds)

    @rule(which=st.integers(0, 2))
    def kill(self, which: int) -> None:
        if (process := self._process(which)) is not None:
            process.kill()
            Process(self.world, self.ledger, f"w{len(self.world.processes)}")

    @rule(which=st.integers(0, 2))
    def stop(self, which: int) -> None:
        if (process := self._process(which)) is not None:
            process.stop()

    def teardown(self) -> None:
        """Whatever has been done: it comes to rest, and is right."""
        if hasattr(self, "world"):
            rest(self.world, self.ledger)


def _run_steps(machine: type[Steps], examples: int) -> None:
    options: Any = settings(
        max_examples=examples,
        stateful_step_count=30,
        database=None,
        deadline=None,
        derandomize=True,
        report_multiple_bugs=False,
        phases=(Phase.generate, Phase.shrink),  # not to explain, which takes ten times as long
    )
    run_state_machine_as_test(machine, settings=options)  # type: ignore[no-untyped-call]


def test_no_invariant_breaks_in_drawn_steps() -> None:
    _run_steps(Steps, count(push=100, nightly=5_000))


def test_a_finding_is_shrunk_to_few_steps() -> None:
    machine = type("StepsOfForgetfulJobs", (Steps,), {"broken": frozenset({"proceed running"})})
    with pytest.raises((Broken, Stuck)) as caught:
        _run_steps(machine, 2_000)
    story = next(note for note in caught.value.__notes__ if "state." in note)
    assert len([line for line in story.splitlines() if "state." in line]) < 12, story
