"""A user of the embedded PostgreSQL: `user_program.py FOLDER GRACE_SECONDS`. Says `ready URL`; SIGTERM ends it well.

Needs perdure alone, found in PYTHONPATH, so that users of the machine who can't reach the environment can run it.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from perdure.embedded import acquire
from perdure.errors import EmbeddedError


def main() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        server = acquire(Path(sys.argv[1]), grace_seconds=float(sys.argv[2]))
    except EmbeddedError as error:
        sys.exit(f"refused: {error}")
    print(f"ready {server.url}", flush=True)  # noqa: T201 - what it is for
    signal.sigwait([signal.SIGTERM])
    server.close()


main()
