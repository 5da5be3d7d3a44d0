"""Reads a claimed job's payloads, written by whatever version of its task's code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from perdure.store.running import Upgrade
from perdure.upgrading import bring_up, decode_current

if TYPE_CHECKING:
    from perdure.store.claims import Claimed
    from perdure.task import Task

__all__ = ["Payloads", "read_payloads"]

_CHECKPOINT: Final = "execution metadata"
_NOTHING: Final = b"null"


class Payloads(NamedTuple):
    """What an attempt begins with.

    Attributes:
        metadata: The decoded input.
        execution_metadata: The decoded checkpoint.
        baseline: The checkpoint as this process encodes it: the database may have stored it with other spaces and
            another order of keys.
        upgrade: What is to be stored before the handler runs, where older code has written the payloads.
    """

    metadata: Any
    execution_metadata: Any
    baseline: bytes
    upgrade: Upgrade | None


def read_payloads(job: Claimed, task: Task[Any, Any, Any, Any]) -> Payloads:
    """Decode a job's payloads.

    Raises:
        PayloadError: This code can't read them.
    """
    upgrade, metadata_json, checkpoint_json = None, job.metadata, job.execution_metadata
    if job.version != task.options.version:
        metadata_json = bring_up("metadata", task.options, "metadata", metadata_json, job.version)
        checkpoint_json = bring_up(_CHECKPOINT, task.options, "execution_metadata", checkpoint_json, job.version)
        version = task.options.version
        upgrade = Upgrade(job.id, job.claim, job.checkpoint, metadata_json, checkpoint_json, version)
    metadata = decode_current(task, "metadata", metadata_json, job.version, "metadata")
    if checkpoint_json == _NOTHING and task.execution_metadata.type is type(None):
        return Payloads(metadata, None, _NOTHING, upgrade)  # most jobs need no checkpoint
    execution_metadata = decode_current(task, "execution_metadata", checkpoint_json, job.version, _CHECKPOINT)
    baseline = task.execution_metadata.encode(execution_metadata, what=_CHECKPOINT, limit=None)
    return Payloads(metadata, execution_metadata, baseline, upgrade)
