"""A function becomes a task, or is refused where it is defined, with its name and what is wrong with it."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from typing_extensions import TypeAliasType  # Python 3.12 has it; type checkers bring this one along

import perdure.blocking
from perdure import App, Cancelled, Completed, Context, Failed, Suspended, Task
from perdure.classes import task_of
from perdure.errors import DefinitionError, PayloadRefused
from tests.support.clients import Imported, Meta, Progress, ShopClosed
from tests.unit.definitions import refused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from decimal import Decimal as OnlyForCheckers


class NotData:
    def __init__(self, connection: object) -> None: ...


def test_a_function_becomes_a_task_with_codecs_of_its_types(app: App) -> None:
    @app.task("orders.import", queue="slow", priority=-3, timeout=timedelta(hours=2), scheduler_retry_delays=[1, 2.5])
    async def import_orders(ctx: Context[Meta, Progress]) -> Imported | Failed[ShopClosed] | Suspended:
        """Import the orders of a shop."""
        return Imported(ctx.execution_metadata.rows)

    assert isinstance(import_orders, Task)
    assert app.tasks == {"orders.import": import_orders}
    assert import_orders.is_async
    assert import_orders.__name__ == "import_orders"
    assert import_orders.__doc__ == "Import the orders of a shop."
    assert import_orders.metadata.decode(b'{"shop":"riga"}', what="it") == Meta("riga")
    assert import_orders.execution_metadata.default() == Progress()
    assert import_orders.result.decode(b'{"rows":1}', what="it") == Imported(1)
    assert import_orders.error.decode(b'{"since":"today"}', what="it") == ShopClosed("today")
    options = import_orders.options
    assert (options.queue, options.priority, options.timeout) == ("slow", -3, timedelta(hours=2))
    assert options.scheduler_retry_delays == (1, 2.5)
    assert (options.max_retry_count, options.scheduler_retry_count) == (None, None)


def test_a_def_runs_in_a_thread(app: App) -> None:
    @app.task("orders.import")
    def import_orders(ctx: perdure.blocking.Context[Meta, None]) -> None: ...

    assert not import_orders.is_async


async def test_a_function_stays_callable_without_a_job(app: App) -> None:
    @app.task("orders.import")
    async def import_orders(ctx: Context[Meta, Progress]) -> Imported | Suspended:
        return Imported(len(ctx.metadata.shop))

    class FakeContext:
        metadata = Meta("riga")

    fake: Any = FakeContext()
    assert await import_orders(fake) == Imported(4)


def test_results_and_errors_are_told_apart_whatever_their_order(app: App) -> None:
    @app.task("a")
    async def a(ctx: Context[Meta, Progress]) -> Suspended | Failed[ShopClosed] | Imported | Cancelled[str] | None:
        return None

    assert a.result.decode(b"null", what="it") is None
    assert a.result.decode(b'{"rows":1}', what="it") == Imported(1)
    assert a.error.decode(b'"gone"', what="it") == "gone"

    @app.task("b")
    async def b(ctx: Context[Meta, Progress]) -> Completed[Imported] | Suspended:
        return Suspended()

    assert b.result.decode(b'{"rows":1}', what="it") == Imported(1)

    @app.task("c")
    async def c(ctx: Context[Meta, Progress]) -> Suspended:
        return Suspended()

    assert c.result.decode(b"null", what="it") is None


def test_an_error_that_the_handler_does_not_declare_is_refused(app: App) -> None:
    @app.task("orders.import")
    async def import_orders(ctx: Context[None, None]) -> None: ...

    undeclared: Any = ShopClosed("today")
    with pytest.raises(PayloadRefused, match=r"error: ShopClosed.*'orders.import' declares no error; add Failed\[…\]"):
        import_orders.error.encode(undeclared, what="error", limit=None)


def test_a_name_is_used_once_and_both_places_are_named(app: App) -> None:
    @app.task("orders.import")
    async def first(ctx: Context[None, None]) -> None: ...

    with pytest.raises(DefinitionError, match=r"two of this name: .*first and .*second"):

        @app.task("orders.import")
        async def second(ctx: Context[None, None]) -> None: ...

    assert app.tasks["orders.import"] is first


@pytest.mark.parametrize("name", ["", "a\nb", "a\0b", "x" * 201])
def test_a_name_that_could_not_be_shown_is_refused(app: App, name: str) -> None:
    with pytest.raises(DefinitionError, match="1 to 200 printable characters"):
        app.task(name)


async def takes_events(ctx: Context[None, None]) -> None: ...


@pytest.mark.parametrize("events", [(Imported, Meta), [Imported, Meta], {Imported: Meta}, 5])
def test_events_that_are_no_type_are_refused(app: App, events: Any) -> None:
    message = refused(app, takes_events, events=events)
    assert message.startswith(f"task 'orders.import', events: {events}")
    assert "can't be stored: payloads are made of" in message


@pytest.mark.parametrize("events", [Imported | None, int | Meta | None, type(None)])
def test_none_is_no_event(app: App, events: Any) -> None:
    message = refused(app, takes_events, events=events)
    assert message.startswith("task 'orders.import', events: ")
    assert "None can't be an event: next_event() returns it when there is none" in message


def test_any_event_may_be_taken(app: App) -> None:
    assert app.task("orders.import", events=Any)(takes_events).events is not None


def test_the_decorator_without_a_name_is_refused(app: App) -> None:
    undecorated: Any = app.task
    with pytest.raises(DefinitionError, match=r"takes the task's name: @app.task\(\"orders.import\"\)"):

        @undecorated
        async def import_orders(ctx: Context[None, None]) -> None: ...


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"queue": ""}, "queue=''"),
        ({"queue": "x" * 64}, "1 to 63 printable characters"),
        ({"queue": "slow\n"}, "printable"),
        ({"queue": None}, "queue=None"),
        ({"priority": 101}, "priority=101 isn't allowed; a priority is a whole number from -100 to 100"),
        ({"priority": -101}, "priority=-101"),
        ({"priority": True}, "priority=True"),
        ({"priority": 1.5}, "priority=1.5"),
        ({"timeout": timedelta(0)}, "it is more than 0"),
        ({"timeout": timedelta(seconds=-1)}, "timeout="),
        ({"timeout": "5"}, "timeout='5'"),
        ({"max_retry_count": -1}, "max_retry_count=-1 isn't allowed; it is a whole number, 0"),
        ({"scheduler_retry_count": 1.0}, "scheduler_retry_count=1.0"),
        ({"scheduler_retry_delays": [1, -1]}, "scheduler_retry_delays=[1, -1]"),
        ({"scheduler_retry_delays": [float("nan")]}, "each 0 s to 36500 days"),
        ({"scheduler_retry_delays": [True]}, "scheduler_retry_delays=[True]"),
        ({"scheduler_retry_delays": 5}, "scheduler_retry_delays=5"),
        ({"scheduler_retry_delays": "60"}, "scheduler_retry_delays='60'"),
        ({"timeuot": timedelta(1)}, "there is no option 'timeuot'; did you mean 'timeout'?"),
        (
            {"colour": 1},
            "there is no option 'colour'; the options are deadline, events, max_retry_count, no_retry_on",
        ),
    ],
)
def test_an_option_that_is_not_allowed_is_refused(app: App, options: dict[str, Any], said: str) -> None:
    async def import_orders(ctx: Context[None, None]) -> None: ...

    assert said in refused(app, import_orders, **options)


@pytest.mark.parametrize("priority", [-100, 0, 100])
def test_priorities_go_from_minus_100_to_100(app: App, priority: int) -> None:
    @app.task("orders.import", priority=priority, queue="x" * 63, timeout=timedelta(microseconds=1), max_retry_count=0)
    async def import_orders(ctx: Context[None, None]) -> None: ...

    assert import_orders.options.priority == priority


def no_annotation(ctx) -> None: ...  # type: ignore[no-untyped-def]  # noqa: ANN001
def other_annotation(ctx: Meta) -> None: ...
def bare_context(ctx: perdure.blocking.Context) -> None: ...  # type: ignore[type-arg]
def no_return(ctx: perdure.blocking.Context[None, None]): ...  # type: ignore[no-untyped-def]  # noqa: ANN201
def no_parameter() -> None: ...
def two_parameters(ctx: perdure.blocking.Context[None, None], shop: str) -> None: ...
def star(*ctx: perdure.blocking.Context[None, None]) -> None: ...
def double_star(**ctx: perdure.blocking.Context[None, None]) -> None: ...
def keyword_only(*, ctx: perdure.blocking.Context[None, None]) -> None: ...
def async_context(ctx: Context[None, None]) -> None: ...
def generator(ctx: perdure.blocking.Context[None, None]) -> Any:
    yield


def bare_failed(ctx: perdure.blocking.Context[None, None]) -> Failed: ...  # type: ignore[type-arg, empty-body]
def bare_completed(ctx: perdure.blocking.Context[None, None]) -> Completed: ...  # type: ignore[type-arg, empty-body]
def only_for_checkers(ctx: perdure.blocking.Context[None, None]) -> OnlyForCheckers: ...  # type: ignore[empty-body]
def broken(ctx: perdure.blocking.Context[None, None]) -> Meta[int]: ...  # type: ignore[type-arg, empty-body]
async def blocking_context(ctx: perdure.blocking.Context[None, None]) -> None: ...
async def async_generator(ctx: Context[None, None]) -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("handler", "said"),
    [
        (no_annotation, "parameter 'ctx' has no annotation; write ctx: perdure.blocking.Context[Metadata, "),
        (other_annotation, "parameter 'ctx' is Meta; it must be perdure.blocking.Context[Metadata, "),
        (bare_context, "parameter 'ctx' is perdure.blocking.Context without its types"),
        (no_return, "the return annotation is missing"),
        (no_parameter, "the handler has no parameter"),
        (two_parameters, "parameter 'shop' is one too many"),
        (star, "parameter '*ctx': a handler takes one positional parameter"),
        (double_star, "parameter '**ctx': a handler takes one positional parameter"),
        (keyword_only, "parameter 'ctx': a handler takes one positional parameter"),
        (async_context, "parameter 'ctx' is perdure.Context, but the handler is a def, which runs in a thread"),
        (blocking_context, "parameter 'ctx' is perdure.blocking.Context, but the handler is an async def"),
        (generator, "the handler has a yield"),
        (async_generator, "the handler has a yield"),
        (bare_failed, "the return annotation has Failed without a type; write Failed[…]"),
        (bare_completed, "the return annotation has Completed without a type"),
        (only_for_checkers, "uses 'OnlyForCheckers', which"),
        (only_for_checkers, "import a handler's types outside of `if TYPE_CHECKING:`"),
        (broken, "an annotation of broken can't be evaluated"),
        (functools.partial(other_annotation), "is no function and no BackgroundTask"),
        (42, "42 is no function"),
        (Meta, "the class Meta isn't derived from BackgroundTask[Metadata, ExecutionMetadata, Result, Error]"),
    ],
)
def test_what_is_no_handler_is_refused(app: App, handler: Any, said: str) -> None:
    assert said in refused(app, handler)


def test_a_type_that_cannot_be_stored_is_refused_with_its_part_named(app: App) -> None:
    async def import_orders(ctx: Context[NotData, None]) -> None: ...

    assert refused(app, import_orders).startswith("task 'orders.import', metadata: ")


def test_types_may_be_local_to_the_function_that_defines_the_task(app: App) -> None:
    @dataclass
    class Local:
        name: str

    @app.task("orders.import")
    async def import_orders(ctx: Context[Local, None]) -> Local:
        return ctx.metadata

    assert import_orders.result.decode(b'{"name":"x"}', what="it") == Local("x")


def test_a_decorated_handler_keeps_its_annotations(app: App) -> None:
    def logged(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        async def wrapper(*args: Any) -> Any:
            return await function(*args)

        return wrapper

    async def import_orders(ctx: Context[Meta, None]) -> Imported: ...  # type: ignore[empty-body]

    task = app.task("orders.import")(logged(import_orders))
    assert task_of(task).metadata.decode(b'{"shop":"riga"}', what="it") == Meta("riga")


Outcome = TypeAliasType("Outcome", Imported | Failed[ShopClosed] | Suspended)
Ctx = TypeAliasType("Ctx", Context[Meta, Progress])


def test_aliases_of_a_type_statement_are_looked_through(app: App) -> None:
    @app.task("orders.import")
    async def import_orders(ctx: Ctx) -> Outcome | None:
        return None

    assert import_orders.metadata.decode(b'{"shop":"riga"}', what="it") == Meta("riga")
    assert import_orders.result.decode(b"null", what="it") is None
    assert import_orders.error.decode(b'{"since":"today"}', what="it") == ShopClosed("today")


def test_a_function_is_bound_to_itself(app: App) -> None:
    async def import_orders(ctx: Context[None, None]) -> None: ...

    task = app.task("orders.import")(import_orders)
    assert task.bind(None) is import_orders
    assert task.bind(lambda kind: kind()) is import_orders
