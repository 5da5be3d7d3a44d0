"""What a measured process tells the measuring one, in lines of JSON: that it is ready, that it begins, what it saw."""

from __future__ import annotations

import json
import sys
import time

__all__ = ["Recorder"]


class Recorder:
    """Notes when handlers begin; cheap enough for the hot path.

    Attributes:
        latencies: Seconds from a job's sending to its handler's beginning, in order; only if so many are expected.
    """

    def __init__(self, expected: int = 0) -> None:
        """Report the latencies once there are so many."""
        self._expected = expected
        self._has_begun = False
        self._is_ready = False
        self.latencies: list[float] = []

    def ready(self) -> None:
        """Say, once, that there is somebody to work."""
        if not self._is_ready:
            self._is_ready = True
            _say(event="ready")

    def began(self, sent_at_seconds: float) -> None:
        """A handler begins."""
        if not self._has_begun:
            self._has_begun = True
            _say(event="began", at_seconds=time.monotonic(), cpu_seconds=time.process_time())
        if self._expected:
            self.latencies.append(time.monotonic() - sent_at_seconds)
            if len(self.latencies) == self._expected:
                _say(event="latencies", seconds=self.latencies)

    def ended(self) -> None:
        """All is done."""
        _say(event="ended", at_seconds=time.monotonic())


def _say(**what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()
