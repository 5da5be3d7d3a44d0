"""Defining what is to be refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from perdure.errors import DefinitionError

if TYPE_CHECKING:
    from perdure import App


def refused(app: App, definition: Any, *, name: str = "orders.import", **options: Any) -> str:
    """Define a task that is refused, and return with which message."""
    with pytest.raises(DefinitionError) as refusal:
        app.task(name, **options)(definition)
    assert name not in app.tasks
    message = str(refusal.value)
    assert message.startswith(f"task '{name}'")
    return message
