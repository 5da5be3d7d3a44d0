"""Failpoints: what the variable says, and that nothing is there without it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import perdure
from perdure import failpoints
from perdure.errors import ConfigError
from perdure.failpoints import POINTS, Failpoints

if TYPE_CHECKING:
    from tests.support.processes import Processes

_SOURCES = Path(perdure.__file__).parent
_REACHES = (
    "from perdure.failpoints import reach, reach_each\n"
    "for number in range(1, 4):\n"
    "    reach('batch.committed')\n"
    "    reach_each(['claim', 'finish'], 'unsent')\n"
    "    print('went on', number, flush=True)\n"
)


def test_without_the_variable_the_functions_are_empty() -> None:
    for function in (failpoints.reach, failpoints.reach_each):
        assert function.__code__.co_names == ()  # it looks up nothing and calls nothing


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("claim.comitted=kill", "PERDURE_FAILPOINTS: there is no point 'claim.comitted'; the points are claim"),
        ("claim.committed", "'claim.committed' isn't point=action or point=action@n, with kill, stop or say"),
        ("claim.committed=explode", "isn't point=action"),
        ("claim.committed=kill@0", "isn't point=action"),
        ("claim.committed=say; claim.committed=kill", "the point 'claim.committed' is there twice"),
    ],
)
def test_what_cant_be_meant_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Failpoints(text)
    assert complaint in str(caught.value)


def test_every_command_says_what_is_wrong_with_the_variable(processes: Processes) -> None:
    process = processes.perdure("worker", "app:app", env={"PERDURE_FAILPOINTS": "x=kill"})
    process.wait_for_line("PERDURE_FAILPOINTS: there is no point 'x'")
    assert process.wait() != 0


def test_it_says_which_point_is_reached(processes: Processes) -> None:
    process = processes.python("-c", _REACHES, env={"PERDURE_FAILPOINTS": "claim.unsent=say;batch.committed = say @ 2"})
    assert process.wait() == 0
    assert process.output.splitlines() == [
        "failpoint claim.unsent: say",
        "went on 1",
        "failpoint batch.committed: say",
        "failpoint claim.unsent: say",
        "went on 2",
        "failpoint claim.unsent: say",
        "went on 3",
    ]


def test_it_kills_at_the_time_that_is_named(processes: Processes) -> None:
    process = processes.python("-c", _REACHES, env={"PERDURE_FAILPOINTS": "finish.unsent=kill@3"})
    assert process.wait() == -9
    assert process.output.splitlines() == ["went on 1", "went on 2", "failpoint finish.unsent: kill"]


def test_it_freezes_once(processes: Processes) -> None:
    process = processes.python("-c", _REACHES, env={"PERDURE_FAILPOINTS": "batch.committed=stop"})
    process.wait_for_line("^failpoint")  # what it has said is read apart from how it stands
    process.wait_until_frozen()
    assert process.output.splitlines() == ["failpoint batch.committed: stop"]
    process.thaw()
    assert process.wait() == 0
    assert process.output.splitlines()[1:] == ["went on 1", "went on 2", "went on 3"]


def test_every_point_that_is_named_is_somewhere_in_the_code() -> None:
    code = "\n".join(path.read_text("utf-8") for path in _SOURCES.rglob("*.py") if path.name != "failpoints.py")
    reached = set(re.findall(r"\breach\(\"([^\"]+)\"\)", code))
    moments = set(re.findall(r"\breach_each\(sent, \"([^\"]+)\"\)", code))
    carried = set(re.findall(r"\bsent\[\"([^\"]+)\"\] = |sent: dict\[[^=]+= \{\"([^\"]+)\"", code))
    names = {name for pair in carried for name in pair if name}
    assert reached | {f"{name}.{moment}" for name in names for moment in moments} >= set(POINTS)
    assert reached <= set(POINTS)
