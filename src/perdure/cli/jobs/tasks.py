"""The tasks that commands work with: the named app's, or a stand-in where the code isn't here."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from perdure.cli.errors import Misunderstood
from perdure.context import Context  # noqa: TC001 - the stand-in's annotation is read when it is defined
from perdure.errors import PayloadError

if TYPE_CHECKING:
    from perdure.app import App
    from perdure.core.codec import Codec
    from perdure.task import Task

__all__ = ["decoded", "stand_in", "task_named"]


def task_named(app: App, name: str) -> Task[Any, Any, Any, Any]:
    """Return a task of the app.

    Raises:
        Misunderstood: It has none of this name; tells the one that was probably meant.
    """
    task = app.tasks.get(name)
    if task is not None:
        return task
    near = get_close_matches(name, app.tasks, n=1)
    known = ", ".join(sorted(app.tasks)) or "none"
    message = f"the app has no task {name!r}; " + (f"did you mean {near[0]!r}?" if near else f"its tasks: {known}")
    raise Misunderstood(message)


def stand_in(app: App, name: str, *, version: int = 1, has_checkpoint: bool = True) -> Task[Any, Any, Any, Any]:
    """Define a task whose code isn't here, in an app without it: any JSON is right."""

    async def with_checkpoint(ctx: Context[Any, Any]) -> None:
        raise NotImplementedError

    async def without(ctx: Context[Any, None]) -> None:
        raise NotImplementedError

    app.task(name, version=version, events=Any)(with_checkpoint if has_checkpoint else without)
    return app.tasks[name]


def decoded(codec: Codec[Any], data: bytes, what: str) -> Any:
    """Decode an argument.

    Raises:
        Misunderstood: It doesn't fit the type, or has keys that the type doesn't know.
    """
    try:
        value = codec.decode(data, what=what)
        codec.check_keys(data, what=what)
    except PayloadError as error:
        raise Misunderstood(str(error)) from error
    return value
