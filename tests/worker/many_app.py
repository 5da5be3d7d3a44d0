"""An app for many worker processes: its jobs wait until a file is there, then write down who has run them."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from perdure import App, Context

# As good as no poll: what isn't notified isn't found.
app = App(os.environ["TEST_DSN"], scheduling={"polling_delay": 86_400})
_GATE = Path(os.environ["TEST_GATE"])


@app.task("held")
async def held(ctx: Context[int, None]) -> None:
    while not _GATE.exists():  # noqa: ASYNC110, ASYNC240 - the test is another process
        await asyncio.sleep(0.05)
    async with app.pool.connection() as connection:
        await connection.execute("insert into runs values (%s, %s)", [ctx.id, os.getpid()])
