"""Fixtures of the unit tests."""

from __future__ import annotations

import pytest

from perdure import App


@pytest.fixture
def app() -> App:
    """An app to define tasks with; it never connects."""
    return App("postgresql:///nobody-connects")
