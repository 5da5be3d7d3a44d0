"""What clients, handlers and faults write down while they act: JSON lines, one file a process.

A line is one `write` of a file that is only appended to. So a process that is killed tears at most its last line, and
what it had written before stays, for the kernel has it.
"""

from __future__ import annotations

import os
import time
import uuid
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = [
    "Answered",
    "Asked",
    "Began",
    "Called",
    "Calmed",
    "Effect",
    "Ended",
    "Fault",
    "Line",
    "Pulsed",
    "Recorder",
    "Stepped",
    "read_lines",
]


class _Line(msgspec.Struct, frozen=True, kw_only=True, tag_field="what"):
    """What all lines have.

    Attributes:
        at: When it was written, in seconds since the epoch.
    """

    at: float = msgspec.field(default_factory=time.time)


class Asked(_Line, frozen=True, tag="asked"):
    """A client is about to ask for something. Without an `Answered` of the call it isn't known whether it was done.

    Attributes:
        call: The call's number, unique in its file.
        verb: "start", "send", "proceed", "cancel", "retry", "retry afresh", "start with a row", "spoil", "await".
        keys: Of the jobs to be started, or of the event.
        jobs: Whom it is asked of.
    """

    call: int
    verb: str
    keys: tuple[str, ...] = ()
    jobs: tuple[int, ...] = ()


class Answered(_Line, frozen=True, tag="answered"):
    """What the call has answered.

    Attributes:
        call: The call's number.
        answer: The answer's name, such as `Sent`; of a start, `Started`; of an awaited result, the state or "nothing".
        jobs: The jobs started, in the order of the keys.
    """

    call: int
    answer: str
    jobs: tuple[int, ...] = ()


class Began(_Line, frozen=True, tag="began"):
    """A handler's body has begun."""

    job: int
    attempt: int
    pid: int


class Ended(_Line, frozen=True, tag="ended"):
    """A handler's body is about to end.

    Attributes:
        job: The job's id.
        attempt: The attempt's number.
        how: "returns", "raises", "fails", "cancels", "suspends", "stopped" (it was cancelled), "refused" (`LeaseLost`).
        why: More on that, for people.
    """

    job: int
    attempt: int
    how: str
    why: str = ""


class Effect(_Line, frozen=True, tag="effect"):
    """An effect outside of any transaction: this line is the effect.

    Attributes:
        job: The job's id.
        attempt: The attempt's number.
        number: Which effect of the job's it is, from 0; its checkpoint counts those that it has had.
    """

    job: int
    attempt: int
    number: int


class Called(_Line, frozen=True, tag="called"):
    """A step's function is called."""

    job: int
    attempt: int
    key: str


class Stepped(_Line, frozen=True, tag="stepped"):
    """`ctx.step` has returned: its result is stored.

    Attributes:
        job: The job's id.
        attempt: The attempt's number.
        key: The step's.
        by: The attempt that has called the function, which is what it returned.
    """

    job: int
    attempt: int
    key: str
    by: int


class Fault(_Line, frozen=True, tag="fault"):
    """Something is done to a process, or to the database.

    Attributes:
        kind: "SIGKILL", "SIGSTOP", "SIGCONT", "SIGTERM", or any other word.
        pid: The process it is done to.
    """

    kind: str
    pid: int | None = None


class Pulsed(_Line, frozen=True, tag="pulsed"):
    """The machine was looked at: how fast it works just now, and what the database's clock says.

    Attributes:
        database_at: The time by the database's clock, in seconds since the epoch.
        slowness: How many times longer than usual something short takes; 1.0 or more.
    """

    database_at: float
    slowness: float


class Calmed(_Line, frozen=True, tag="calmed"):
    """Nothing is done to connections any more."""


Line = Asked | Answered | Began | Ended | Effect | Called | Stepped | Fault | Pulsed | Calmed

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)


class Recorder:
    """Appends lines to a file of this process's own."""

    def __init__(self, folder: Path, name: str) -> None:
        """Make the file in the folder, with a name that begins with `name`."""
        # Process ids come again: never append to the file of one that was killed.
        path = folder / f"{name}-{os.getpid()}-{uuid.uuid4().hex[:8]}.jsonl"
        self.path = path
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def write(self, line: Line) -> None:
        """Append a line; when this returns, it outlives the process."""
        os.write(self._descriptor, _encoder.encode(line) + b"\n")

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def read_lines(path: Path) -> Iterator[Line]:
    """Read a file's lines; of a torn last one nothing is known.

    Raises:
        ValueError: A line that isn't the last is torn.
    """
    lines = path.read_bytes().split(b"\n")
    torn = lines.pop()
    for number, line in enumerate(lines, 1):
        try:
            yield _decoder.decode(line)
        except msgspec.DecodeError as error:
            message = f"{path}, line {number}: {error}: {line!r}"
            raise ValueError(message) from error
    if torn:
        # It may be whole, but for its end.
        try:
            yield _decoder.decode(torn)
        except msgspec.DecodeError:
            return
