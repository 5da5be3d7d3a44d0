"""A TCP proxy before PostgreSQL that breaks one connection at one message, once it is armed."""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import TYPE_CHECKING, Literal, Self
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Proxy"]

Break = Literal["before", "after", "late"]
_CHUNK = 65536


class Proxy:
    """Forwards everything, until a client sends the armed bytes (or executes what it has prepared of them).

    Then, by the kind of break: `before`: neither the message nor anything else reaches the server; `after`: the server
    gets it, the client never hears; `late`: the client is cut off at once, the server gets the message on `release`.

    Attributes:
        direct_dsn: The dsn that doesn't lead through the proxy.
        broken: Set once the armed message has come.
        delivered: Set once the server has been sent it, if it is.
    """

    def __init__(self, dsn: str) -> None:
        self.direct_dsn = dsn
        self._parts = urlsplit(dsn)
        self._armed: tuple[bytes, Break] | None = None
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._release = asyncio.Event()
        self.broken = asyncio.Event()
        self.delivered = asyncio.Event()

    @property
    def dsn(self) -> str:
        """The dsn that leads through the proxy."""
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        user = f"{self._parts.username}@" if self._parts.username else ""
        return urlunsplit(self._parts._replace(netloc=f"{user}127.0.0.1:{port}"))

    def arm(self, message: bytes, kind: Break) -> None:
        """Break the next connection whose client sends these bytes."""
        self._armed = (message, kind)

    def release(self) -> None:
        """Deliver a message that was held back."""
        self._release.set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        server_in, server_out = await asyncio.open_connection(self._parts.hostname, self._parts.port)
        back = asyncio.create_task(_pump(server_in, client_out))
        try:
            await self._forward(client_in, client_out, server_in, server_out, back)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            back.cancel()
            for writer in (server_out, client_out):
                writer.close()
            self._tasks.discard(task)

    async def _forward(
        self,
        client_in: asyncio.StreamReader,
        client_out: asyncio.StreamWriter,
        server_in: asyncio.StreamReader,
        server_out: asyncio.StreamWriter,
        back: asyncio.Task[None],
    ) -> None:
        watched: tuple[bytes, Break] | None = None  # the execution of what this very connection has prepared
        while data := await client_in.read(_CHUNK):
            if watched is None and self._armed is not None and self._armed[0] in data:
                watched, self._armed = _execution(data, *self._armed), None
            if watched is not None and watched[0] in data:
                kind = watched[1]
                back.cancel()
                await asyncio.wait({back})
                if kind != "before":
                    if kind == "late":
                        client_out.close()
                        self.broken.set()
                        await self._release.wait()
                    server_out.write(data)
                    await server_out.drain()
                    server_out.write_eof()  # what was sent is executed, then the server sees the end
                    self.delivered.set()
                    if kind == "after":
                        await server_in.read(-1)  # until it has dealt with all that and ended, too
                self.broken.set()
                return
            server_out.write(data)
            await server_out.drain()


def _execution(data: bytes, message: bytes, kind: Break) -> tuple[bytes, Break]:
    """Return what to break: the message itself, or the execution of the statement that it is prepared as."""
    name = re.search(rb"P....(_pg3_[0-9a-f]+)\0", data[: data.index(message)], re.DOTALL)
    return (message, kind) if name is None else (b"\0" + name[1] + b"\0", kind)


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await source.read(_CHUNK):
            target.write(data)
            await target.drain()
