"""Reads a claimed job's payloads, written by whatever version of its task's code."""

from __future__ import annotations

from types import NoneType
from typing import TYPE_CHECKING, Any, Final

from perdure.store.running import Upgrade
from perdure.upgrading import bring_up, decode_current

if TYPE_CHECKING:
    from perdure.store.claims import Claimed
    from perdure.task import Task

__all__ = ["Payloads", "read_payloads"]

_CHECKPOINT: Final = "execution metadata"
_NOTHING: Final = b"null"


Payloads = tuple[Any, Any, bytes, Upgrade | None]
"""What an attempt begins with.

- The decoded input.
- The decoded checkpoint.
- The checkpoint as this process encodes it: the database may have stored it with other spaces, its keys reordered.
- What is to be stored before the handler runs, where older code has written the payloads.
"""


def read_payloads(job: Claimed, task: Task[Any, Any, Any, Any]) -> Payloads:
    """Decode a job's payloads.

    Raises:
        PayloadError: This code can't read them.
    """
    version, metadata_json, checkpoint_json = task.options.version, job.metadata, job.execution_metadata
    if job.version == version and checkpoint_json == _NOTHING and task.execution_metadata.type is NoneType:
        return task.metadata.decode(metadata_json, what="metadata"), None, _NOTHING, None  # most jobs
    upgrade = None
    if job.version != version:
        metadata_json = bring_up("metadata", task.options, "metadata", metadata_json, job.version)
        checkpoint_json = bring_up(_CHECKPOINT, task.options, "execution_metadata", checkpoint_json, job.version)
        upgrade = Upgrade(job.id, job.claim, job.checkpoint, metadata_json, checkpoint_json, version)
    metadata = decode_current(task, "metadata", metadata_json, job.version, "metadata")
    execution_metadata = decode_current(task, "execution_metadata", checkpoint_json, job.version, _CHECKPOINT)
    baseline = task.execution_metadata.encode(execution_metadata, what=_CHECKPOINT, limit=None)
    return metadata, execution_metadata, baseline, upgrade
