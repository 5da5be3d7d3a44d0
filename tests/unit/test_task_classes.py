"""A class becomes a task, of which an instance is made for every attempt; or is refused where it is defined."""
# ruff: noqa: ARG002 - a handler has its context, whether it needs it or not

from __future__ import annotations

from typing import Any, Generic, Never, TypeVar

import pytest

import perdure.blocking
from perdure import App, BackgroundTask, Context, Failed, Suspended
from perdure.classes import task_of
from perdure.errors import DefinitionError, MisuseError, PayloadRefused
from tests.support.clients import Imported, Meta, Progress, ShopClosed
from tests.unit.definitions import refused

X = TypeVar("X")


class Clean(BackgroundTask[Meta, Progress, Imported, ShopClosed]):
    async def execute(self, ctx: Context[Meta, Progress]) -> Imported | Failed[ShopClosed] | Suspended:
        return Imported(ctx.execution_metadata.rows)


class Repeating(BackgroundTask[Meta, X, Imported, Never], Generic[X]):
    """A base of the application's own, that leaves one type to those derived from it."""


def test_a_class_stays_a_class_and_knows_its_task(app: App) -> None:
    class Import(Clean):
        pass

    assert app.task("orders.import")(Import) is Import
    task = task_of(Import)
    assert task is app.tasks["orders.import"]
    assert task.is_async
    assert task.error.decode(b'{"since":"today"}', what="it") == ShopClosed("today")


def test_types_are_found_through_generic_classes_in_between(app: App) -> None:
    class Import(Repeating[Progress]):
        async def execute(self, ctx: Context[Meta, Progress]) -> Imported:
            return Imported(1)

    app.task("orders.import")(Import)
    assert task_of(Import).execution_metadata.default() == Progress()
    undeclared: Any = 1
    with pytest.raises(PayloadRefused, match="declares no error"):
        task_of(Import).error.encode(undeclared, what="error", limit=None)


def test_the_types_of_a_class_may_be_strings(app: App) -> None:
    class Import(BackgroundTask["Meta", "list[Progress]", "Imported | None", "Never"]):
        async def execute(self, ctx: Context[Meta, list[Progress]]) -> Imported | None:
            return None

    app.task("orders.import")(Import)
    assert task_of(Import).metadata.decode(b'{"shop":"riga"}', what="it") == Meta("riga")
    assert task_of(Import).result.decode(b"null", what="it") is None


def test_a_class_derived_from_a_task_is_not_that_task(app: App) -> None:
    class Import(Clean):
        pass

    class Derived(Import):
        pass

    app.task("orders.import")(Import)
    with pytest.raises(MisuseError, match=r"Derived is no task: decorate it with @app.task"):
        task_of(Derived)
    app.task("orders.import.derived")(Derived)
    assert task_of(Derived).name == "orders.import.derived"
    assert task_of(Import).name == "orders.import"


def test_a_class_is_one_task_only(app: App) -> None:
    class Import(Clean):
        pass

    app.task("first")(Import)
    assert "the class Import is the task 'first' already" in refused(app, Import)


def test_what_is_no_task_class_is_refused(app: App) -> None:
    class NoExecute(BackgroundTask[Meta, Progress, Imported, ShopClosed]):
        pass

    class NoTypes(BackgroundTask):  # type: ignore[type-arg]
        async def execute(self, ctx: Context[Meta, Progress]) -> Imported: ...  # type: ignore[empty-body]

    class Open(BackgroundTask[Meta, X, Imported, ShopClosed]):
        async def execute(self, ctx: Context[Meta, X]) -> Imported: ...  # type: ignore[empty-body]

    class Blocks(BackgroundTask[Meta, Progress, Imported, ShopClosed]):
        def execute(self, ctx: Any) -> Any: ...

    class Awaits(perdure.blocking.BackgroundTask[Meta, Progress, Imported, ShopClosed]):
        async def execute(self, ctx: Any) -> Any: ...

    class OtherMetadata(BackgroundTask[Meta, Progress, Imported, ShopClosed]):
        async def execute(self, ctx: Context[Progress, Progress]) -> Imported: ...  # type: ignore[override, empty-body]

    class OtherResult(BackgroundTask[Meta, Progress, Imported, ShopClosed]):
        async def execute(self, ctx: Context[Meta, Progress]) -> Meta: ...  # type: ignore[override, empty-body]

    class OtherError(BackgroundTask[Meta, Progress, Imported, Never]):
        async def execute(self, ctx: Context[Meta, Progress]) -> Failed[str]: ...  # type: ignore[override, empty-body]

    class TwoParameters(BackgroundTask[Meta, Progress, Imported, ShopClosed]):
        async def execute(self, ctx: Context[Meta, Progress], shop: str) -> Imported: ...  # type: ignore[override, empty-body]

    assert "the class NoExecute has no method execute" in refused(app, NoExecute)
    assert "derive the class NoTypes from BackgroundTask[Metadata, " in refused(app, NoTypes)
    assert "the class Open leaves the type of its execution metadata open (~X)" in refused(app, Open)
    assert "execute is a def, so derive the class Blocks from perdure.blocking.BackgroundTask" in refused(app, Blocks)
    assert "execute is an async def, so derive the class Awaits from perdure.BackgroundTask" in refused(app, Awaits)
    assert "parameter 'ctx' has the types [Progress, Progress], but the class is declared with [Meta, Pr" in refused(
        app, OtherMetadata
    )
    assert "may return the result Meta, but the class is declared with Imported" in refused(app, OtherResult)
    assert "may return the error str, but the class is declared with Never" in refused(app, OtherError)
    assert "parameter 'shop' is one too many" in refused(app, TwoParameters)


class Shops:
    pass


def define_with_dependency(app: App) -> type[BackgroundTask[Meta, Progress, Shops, Never]]:
    @app.task("orders.import")
    class Import(BackgroundTask[Meta, Progress, Any, Never]):
        def __init__(self, shops: Shops) -> None:
            self.shops = shops

        async def execute(self, ctx: Context[Meta, Progress]) -> Any:
            return self, ctx

    return Import


async def test_the_resolver_makes_an_instance_for_every_attempt(app: App) -> None:
    cls: Any = define_with_dependency(app)
    shops = Shops()
    ctx: Any = object()
    bound = task_of(cls).bind(lambda kind: kind(shops))
    first, seen = await bound(ctx)
    second, _ = await bound(ctx)
    assert isinstance(first, cls)
    assert first is not second
    assert (first.shops, seen) == (shops, ctx)


def test_a_class_that_needs_arguments_needs_a_resolver(app: App) -> None:
    cls = define_with_dependency(app)
    with pytest.raises(
        DefinitionError,
        match=r"the class Import can't be made without arguments \(missing .*'shops'\); .*App\(resolver=…\)",
    ):
        task_of(cls).bind()


async def test_a_resolver_that_returns_something_else_is_refused(app: App) -> None:
    cls = define_with_dependency(app)
    bound = task_of(cls).bind(lambda _kind: Shops())
    with pytest.raises(MisuseError, match=r"'orders.import': the app's resolver returned .*, which is no Import"):
        bound(object())


async def test_without_a_resolver_the_class_is_called(app: App) -> None:
    @app.task("orders.import")
    class Import(perdure.blocking.BackgroundTask[None, None, Any, Never]):
        def execute(self, ctx: perdure.blocking.Context[None, None]) -> Any:
            return self

    bound = task_of(Import).bind()
    first, second = bound(object()), bound(object())
    assert isinstance(first, Import)
    assert isinstance(second, Import)
    assert first is not second
