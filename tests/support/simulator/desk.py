"""perdure's desk without an event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.worker.batch import fail_persist
from perdure.worker.desk import Desk

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.worker.batch import PendingPersist

__all__ = ["SimulatedDesk"]


class SimulatedDesk(Desk):
    """perdure's desk; what is to be written again a little later waits here, not in an event loop."""

    def __init__(self) -> None:
        super().__init__()
        self.later: list[tuple[Callable[[], None], PendingPersist | None]] = []

    def again(
        self,
        job_id: int,  # noqa: ARG002 - nobody counts tries here
        action: Callable[[], None],
        pending: PendingPersist | None = None,
    ) -> None:
        """Write something again that found its row locked."""
        self.later.append((action, pending))

    def bring_again(self) -> None:
        """A little later."""
        later, self.later = self.later, []
        for action, _ in later:
            action()

    def clear(self) -> None:
        """Forget everything."""
        super().clear()
        for _, pending in self.later:
            if pending is not None:
                fail_persist(pending)
        self.later.clear()
