"""What all verbs have: names, tasks, codecs; and what a verb yields."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from perdure.errors import PayloadRefused
from perdure.job import Job
from perdure.store.calls import Call
from perdure.upgrading import bring_up, decode_current

if TYPE_CHECKING:
    from collections.abc import Mapping

    from perdure.job import JobSource
    from perdure.store.jobs import JobRow
    from perdure.store.sql import Names
    from perdure.task import Task

__all__ = ["Basis", "Step", "Together", "Verb"]

T = TypeVar("T")
M = TypeVar("M")
X = TypeVar("X")


class Together(Generic[T]):
    """A part of a verb that is one transaction, in which each statement sees what was committed before it.

    In the caller's transaction, where there is one already, it is a part of that.

    Attributes:
        verb: Its steps; what it raises undoes them.
        setting: The statement that the transaction begins with.
    """

    __slots__ = ("setting", "verb")

    def __init__(self, verb: Verb[T], *, read_only: bool = False) -> None:
        """Run these steps in one transaction, which can't write when it is `read_only`."""
        self.verb = verb
        # Of this transaction alone, whatever the session's default is.
        self.setting = b"set transaction isolation level read committed" + (b", read only" if read_only else b"")


Step: TypeAlias = Call[Any] | Together[Any]
"""What a verb yields, to be sent the answer."""

Verb: TypeAlias = Generator[Step, Any, T]
"""The steps of a verb, and at its end its answer."""


class Basis:
    """Knows the app's tasks and the schema's names, and runs nothing."""

    def __init__(
        self, names: Names, tasks: Mapping[str, Task[Any, Any, Any, Any]], source: JobSource, *, max_payload_bytes: int
    ) -> None:
        """Keep what calls are made of."""
        self.names = names
        self.tasks = tasks
        self.source = source
        self.max_payload_bytes = max_payload_bytes

    def job(self, row: JobRow) -> Job[Any, Any, Any, Any]:
        """Make the handle of a row."""
        return Job(row, self.tasks.get(row.task), self.source)

    def encode_metadata(self, task: Task[M, Any, Any, Any], metadata: M) -> bytes:
        """Encode a job's input.

        Raises:
            PayloadRefused: It can't be stored.
        """
        return task.metadata.encode(metadata, what=f"metadata of {task.name}", limit=self.max_payload_bytes)

    def encode_checkpoint(self, task: Task[Any, X, Any, Any], execution_metadata: X | None) -> bytes:
        """Encode a checkpoint; for None, the one whose fields all have their defaults.

        Raises:
            PayloadRefused: It can't be stored, or a field has no default.
        """
        codec = task.execution_metadata
        try:
            value = codec.default() if execution_metadata is None else execution_metadata
        except PayloadRefused as error:
            message = f"execution metadata of {task.name}: {error}; it is given as execution_metadata="
            raise PayloadRefused(message) from None
        return codec.encode(value, what=f"execution metadata of {task.name}", limit=self.max_payload_bytes)

    def current_metadata(self, task: Task[Any, Any, Any, Any], row: JobRow) -> bytes | None:
        """Return a job's metadata as the code at hand has it; None when it is stored so.

        For whoever writes the execution metadata: what is stored is of one version.

        Raises:
            PayloadUndecodable: The code at hand can't read it.
        """
        if row.version == task.options.version:
            return None
        what = f"job {row.id}: metadata"
        data = bring_up(what, task.options, "metadata", row.metadata, row.version)
        decode_current(task, "metadata", data, row.version, what)
        return data
