"""Whether the code at hand can read what other code has stored: for `app.check_resume()` and `perdure check-resume`.

Looks at one payload at a time, as a worker would. Reads and writes nothing.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast

from perdure.core.codec import codec_for
from perdure.core.states import JobState
from perdure.errors import PayloadError, PayloadUndecodable
from perdure.upgrading import bring_up, decode_current

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from perdure.core.codec import Codec
    from perdure.store.payloads import LivePayloads, UnreadPayload
    from perdure.task import Task
    from perdure.upgrading import PayloadKind

    Tasks: TypeAlias = Mapping[str, Task[Any, Any, Any, Any]]
    Path: TypeAlias = tuple[str | int, ...]

__all__ = ["ResumeProblem", "ResumeProgress", "problems_of_event", "problems_of_job"]

_MOST_PATHS: Final = 5
_MOST_SUSPECTS: Final = 20
_plain: Final = codec_for(Any)


@dataclass(frozen=True, slots=True)
class ResumeProblem:
    """Why a live job wouldn't go on with the code at hand, or wouldn't with all that is stored of it.

    Attributes:
        job_id: The job.
        task: Its task's name.
        state: The state that it is in.
        payload: What can't be read: the task itself, when it is unknown, or one of the job's payloads.
        reason: Why not.
        resumes: Whether the job would go on all the same, as for a stored field that the code doesn't have any more.
    """

    job_id: int
    task: str
    state: JobState
    payload: Literal["task", "metadata", "execution_metadata", "event"]
    reason: str
    resumes: bool = False


@dataclass(frozen=True, slots=True)
class ResumeProgress:
    """How far a check is.

    Attributes:
        jobs: The live jobs that have been looked at.
        events: Their unread events that have been.
        total: How many live jobs there were at the beginning.
    """

    jobs: int
    events: int
    total: int


def problems_of_job(tasks: Tasks, job: LivePayloads) -> Iterator[ResumeProblem]:
    """Read a job's metadata and execution metadata as a worker would, and tell what is wrong."""
    state = JobState.from_code(job.state)
    task = tasks.get(job.task)
    if task is None:
        yield ResumeProblem(job.id, job.task, state, "task", f"no task named {job.task!r} is registered in this app")
        return
    payloads: tuple[tuple[PayloadKind, bytes], ...] = (
        ("metadata", job.metadata),
        ("execution_metadata", job.execution_metadata),
    )
    for kind, data in payloads:
        for reason, resumes in _look(task, kind, data, job.version):
            yield ResumeProblem(job.id, job.task, state, kind, reason, resumes)


def problems_of_event(tasks: Tasks, name: str, state: JobState, event: UnreadPayload) -> Iterator[ResumeProblem]:
    """Read an unread event as a handler's `ctx.next_event()` would, and tell what is wrong."""
    task = tasks.get(name)
    if task is not None:  # else that is what is wrong with the job
        for reason, resumes in _look(task, "event", event.data, event.version):
            yield ResumeProblem(event.job_id, name, state, "event", reason, resumes)


def _look(task: Task[Any, Any, Any, Any], kind: PayloadKind, data: bytes, version: int) -> Iterator[tuple[str, bool]]:
    """Tell why a payload can't be read, or what of it would be passed over."""
    what = kind.replace("_", " ")
    try:
        current = bring_up(what, task.options, kind, data, version)
        value = decode_current(task, kind, current, version, what)
    except PayloadUndecodable as error:
        yield str(error), False
        return
    codec: Codec[Any] = getattr(task, "events" if kind == "event" else kind)
    try:
        again = codec.encode(value, what=what, limit=None)
    except PayloadError as error:
        # A worker writes the execution metadata again; the others it only reads.
        if kind == "execution_metadata":
            yield str(error), False
        return
    paths = list(_passed_over(codec, value, _plain.decode(current, what=what), _plain.decode(again, what=what)))
    if paths:
        shown = ", ".join(paths[:_MOST_PATHS]) + (", …" if len(paths) > _MOST_PATHS else "")
        yield f"{what}: {shown}: stored, but the type has no such field (any more): it is passed over", True


def _passed_over(codec: Codec[Any], value: Any, stored: Any, again: Any) -> Iterator[str]:
    """Find the keys that make no difference to what is read: nothing takes what is stored under them."""
    if stored == again:
        return
    seen: set[str] = set()
    for path in list(_missing(stored, again))[:_MOST_SUSPECTS]:
        shown = _show(path)
        if shown not in seen and _reads_without(codec, value, stored, path):
            seen.add(shown)
            yield shown


def _missing(stored: Any, again: Any, path: Path = ()) -> Iterator[Path]:
    """Find the keys of stored objects that aren't there when these are written again; what is null is no loss."""
    if isinstance(stored, dict) and isinstance(again, dict):
        kept = cast("dict[str, Any]", again)
        for key, part in cast("dict[str, Any]", stored).items():
            if key in kept:
                yield from _missing(part, kept[key], (*path, key))
            elif part is not None:
                yield (*path, key)
    elif isinstance(stored, list) and isinstance(again, list):
        parts = cast("list[object]", again)
        for place, (part, other) in enumerate(zip(cast("list[object]", stored), parts, strict=False)):
            yield from _missing(part, other, (*path, place))


def _reads_without(codec: Codec[Any], value: Any, stored: Any, path: Path) -> bool:
    """Tell whether the same is read without a key: then nothing takes it, be it by an alias."""
    without = copy.deepcopy(stored)
    inside = without
    for part in path[:-1]:
        inside = inside[part]
    del inside[path[-1]]
    try:
        return bool(codec.decode(_plain.encode(without, what="it", limit=None), what="it") == value)
    except PayloadError:
        return False


def _show(path: Path) -> str:
    return "".join("[]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")
