"""A TCP proxy before PostgreSQL that knows the messages: it cuts connections at one of them, and makes bad weather.

A cut comes where a client runs an armed statement, as text or by the name of what it has prepared:

| cut | what the server gets of it | what the client hears |
|---|---|---|
| `before` | nothing | nothing |
| `mid-frame` | half of the message | nothing |
| `unsynced` | the statement, but not the end of its transaction | nothing |
| `after` | all | nothing |
| `unready` | all | that the statement is done, not that its transaction is |
| `late` | all, with what was sent in one batch before, but only on `release` | nothing |

To `swallow` a statement makes its connection silent for ever, from there on, and leaves it alive.

Weather concerns all connections, or those of one application: delays, jitter, a limited rate, a black hole (bytes
vanish, connections stay, silent for ever, and answer the kernel's keepalives), or that whoever connects is sent away.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Self, get_args
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from tests.support.wire import CANCEL_REQUEST, Statements, application_name, read_frame, read_startup, request_code

if TYPE_CHECKING:
    from types import TracebackType

    from tests.support.wire import Frame

__all__ = ["CUTS", "LOST", "Cut", "Proxy", "Weather"]

Cut = Literal["before", "mid-frame", "unsynced", "after", "unready", "late", "swallow"]
CUTS: tuple[Cut, ...] = get_args(Cut)[:-2]
"""Those that break a connection at once."""

LOST: frozenset[Cut] = frozenset({"before", "mid-frame", "unsynced"})
"""Those after which the server hasn't done it."""

_LOOK_SECONDS = 0.02
_DELIVERY_SECONDS = 60.0
_OF_A_BATCH = frozenset({b"P", b"B", b"D", b"E", b"C"})


@dataclass
class Weather:
    """What the network is like.

    Attributes:
        delay_seconds: How long everything takes, each way.
        jitter_seconds: How much longer at most, by chance.
        rate: Bytes a second, each way of each connection; None for no limit.
        black_hole: Whether bytes vanish.
        refuses: Whether who connects is sent away.
    """

    delay_seconds: float = 0.0
    jitter_seconds: float = 0.0
    rate: float | None = None
    black_hole: bool = False
    refuses: bool = False


@dataclass
class _Armed:
    statement: bytes
    cut: Cut
    skip: int
    whole: bool

    def covers(self, statement: bytes) -> bool:
        return self.statement == statement if self.whole else self.statement in statement


class Proxy:
    """Forwards everything, until it is armed or the weather changes.

    Attributes:
        direct_dsn: The dsn that doesn't lead through the proxy.
        weather: What the network is like for whoever has no weather of his own.
        weather_of: The same by application name.
        broken: Set once an armed statement has come.
        delivered: Set once the server has been sent it, if it is.
        answered: Set once the server has dealt with what was held back, all of it.
        answers: What it has answered to that: the tag of what is done, the SQLSTATE of what is refused.
    """

    def __init__(self, dsn: str, *, seed: int = 0) -> None:
        self.direct_dsn = dsn
        self.weather = Weather()
        self.weather_of: dict[str, Weather] = {}
        self.random = random.Random(seed)
        self.broken = asyncio.Event()
        self.delivered = asyncio.Event()
        self.released = asyncio.Event()
        self.answered = asyncio.Event()
        self.answers: list[str] = []
        self._parts = urlsplit(dsn)
        self._armed: list[_Armed] = []
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], _Connection] = {}

    @property
    def dsn(self) -> str:
        """The dsn that leads through the proxy, without encryption."""
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        user = f"{self._parts.username}@" if self._parts.username else ""
        query = urlencode([*parse_qsl(self._parts.query), ("sslmode", "disable"), ("gssencmode", "disable")])
        return urlunsplit(self._parts._replace(netloc=f"{user}127.0.0.1:{port}", query=query))

    def arm(self, statement: bytes, cut: Cut, *, skip: int = 0, whole: bool = False) -> None:
        """Cut the next connection that runs a statement with this text in it, or of just this, after `skip` others."""
        for event in (self.broken, self.delivered, self.released, self.answered):
            event.clear()
        self.answers = []
        self._armed.append(_Armed(statement, cut, skip, whole))

    def swallow(self, statement: bytes) -> None:
        """Make the next connection silent that runs a statement with this text in it."""
        self.arm(statement, "swallow")

    def disarm(self) -> None:
        """Cut nothing that hasn't come yet."""
        self._armed.clear()

    @property
    def is_armed(self) -> bool:
        """Whether something is to be cut that hasn't come yet."""
        return bool(self._armed)

    @property
    def may_delay(self) -> bool:
        """Whether one of those is to come late."""
        return any(armed.cut == "late" for armed in self._armed)

    def release(self) -> None:
        """Deliver a message that was held back."""
        self.released.set()

    async def deliver(self) -> list[str]:
        """Deliver a message that was held back, and return what the server has answered: it is done, or refused."""
        self.release()
        await asyncio.wait_for(self.answered.wait(), _DELIVERY_SECONDS)
        return self.answers

    def cut_all(self, application: str | None = None) -> None:
        """Break every connection now, or those of one application; what is held back arrives all the same."""
        for connection in self._connections.values():
            if application in {None, connection.application} and not connection.is_late:
                connection.abort()

    def cut_for(self, statement: bytes) -> Cut | None:
        """Say whether to cut here, where a client runs this statement."""
        for armed in self._armed:
            if armed.covers(statement):
                if armed.skip:
                    armed.skip -= 1
                    return None
                self._armed.remove(armed)
                return armed.cut
        return None

    def weather_for(self, application: str) -> Weather:
        """Return the weather of an application's connections."""
        return self.weather_of.get(application, self.weather)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connection = self._connections[task] = _Connection(self, client_in, client_out)
        try:
            if not self.weather.refuses:
                with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                    await connection.serve(self._parts.hostname or "127.0.0.1", self._parts.port or 5432)
        finally:
            connection.abort()
            del self._connections[task]


@dataclass
class _Connection:
    """One client's connection, and the server's end of it."""

    proxy: Proxy
    client_in: asyncio.StreamReader
    client_out: asyncio.StreamWriter
    server_out: asyncio.StreamWriter | None = None
    application: str = ""
    is_silent: bool = False
    cuts_at_ready: bool = False
    is_late: bool = False
    is_swallowed: bool = False
    _statements: Statements = field(default_factory=Statements)

    def abort(self) -> None:
        """Break both ends."""
        for writer in (self.server_out, self.client_out):
            if writer is not None:
                writer.close()

    @property
    def weather(self) -> Weather:
        """What it goes through now."""
        return self.proxy.weather_for(self.application)

    def swallows(self) -> bool:
        """Whether what is sent now vanishes: once something has, nothing that comes after it is of any use."""
        self.is_swallowed = self.is_swallowed or self.weather.black_hole
        return self.is_swallowed

    async def _until_fair(self) -> None:
        """Hold back an end, too, as long as it would vanish: while the hole lasts, or the client is there."""
        while self.weather.black_hole or (  # noqa: ASYNC110 - a test sets it like any attribute
            self.is_swallowed and not self.client_in.at_eof()
        ):
            await asyncio.sleep(_LOOK_SECONDS)

    async def serve(self, host: str, port: int) -> None:
        """Forward both ways until one end ends, or a cut comes."""
        startup = await read_startup(self.client_in)
        self.application = application_name(startup)
        if self.weather.black_hole:
            await self._until_fair()
            return
        server_in, server_out = await asyncio.open_connection(host, port)
        self.server_out = server_out
        if request_code(startup) == CANCEL_REQUEST:
            server_out.write(startup)
            self.client_out.write(await server_in.read())
            return
        forth, back = _Line(self, server_out), _Line(self, self.client_out)
        forth.send(startup)
        pumps = {
            asyncio.create_task(self._pump_forth(forth)),
            asyncio.create_task(self._pump_back(server_in, back)),
            asyncio.create_task(forth.run()),
            asyncio.create_task(back.run()),
        }
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            await self._until_fair()  # an end, too, vanishes in a black hole
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump_forth(self, line: _Line) -> None:
        held = b""  # of a batch that may have to come late: then none of it comes before
        while True:
            try:
                frame = await read_frame(self.client_in)
            except (asyncio.IncompleteReadError, OSError):
                line.send(held)
                await line.flush()  # what it had sent before it ended is under way
                return
            statement = self._statements.run_by(frame)
            cut = None if statement is None else self.proxy.cut_for(statement)
            if cut == "swallow":
                self.is_swallowed = True
                self.proxy.broken.set()
            if cut in {None, "swallow"}:
                if frame.kind in _OF_A_BATCH and self.proxy.may_delay:
                    held += frame.data
                else:
                    line.send(held + frame.data)
                    held = b""
                continue
            assert cut is not None
            if cut != "late":
                line.send(held)
                held = b""
            try:
                await self._cut(cut, frame, held, line)
            finally:
                self.proxy.broken.set()
            return

    async def _cut(self, cut: Cut, frame: Frame, held: bytes, line: _Line) -> None:
        assert self.server_out is not None
        self.is_silent = cut != "unready"
        self.cuts_at_ready = cut == "unready"
        await line.flush()
        match cut:
            case "before":
                return
            case "mid-frame":
                self.server_out.write(frame.data[: len(frame.data) // 2])
                await self.server_out.drain()
                return
            case "late":
                rest = await self._rest_of_batch(frame)
                self.client_out.close()
                self.proxy.broken.set()
                self.is_late = True
                await self.proxy.released.wait()
                self.server_out.write(held + rest)
            case "unsynced":
                rest = await self._rest_of_batch(frame)
                self.server_out.write(b"" if frame.kind == b"Q" else rest[:-5])
            case _:
                self.server_out.write(await self._rest_of_batch(frame))
        await self.server_out.drain()
        self.server_out.write_eof()  # what was sent is executed, then the server sees the end
        self.proxy.delivered.set()
        await asyncio.Event().wait()  # until the server has dealt with all that and ended, too

    async def _rest_of_batch(self, frame: Frame) -> bytes:
        """Read on up to what ends the transaction."""
        data = frame.data
        while frame.kind not in {b"Q", b"S"}:
            frame = await read_frame(self.client_in)
            data += frame.data
        return data

    async def _pump_back(self, server_in: asyncio.StreamReader, line: _Line) -> None:
        while True:
            try:
                frame = await read_frame(server_in)
            except (asyncio.IncompleteReadError, OSError):
                if not self.is_silent:
                    await line.flush()
                if self.is_late:
                    self.proxy.answered.set()
                return
            if self.is_late and self.proxy.released.is_set() and (answer := frame.answer()) is not None:
                self.proxy.answers.append(answer)
            if frame.kind == b"Z" and self.cuts_at_ready:
                await line.flush()
                self.is_silent = True
            if not self.is_silent:
                line.send(frame.data)


class _Line:
    """One way of a connection, in whatever weather: what is sent arrives in order, or vanishes."""

    def __init__(self, connection: _Connection, writer: asyncio.StreamWriter) -> None:
        self._connection = connection
        self._writer = writer
        self._sent: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    def send(self, data: bytes) -> None:
        """Send, without waiting for it to arrive."""
        weather, loop = self._connection.weather, asyncio.get_running_loop()
        if self._connection.swallows():
            return
        delay_seconds = weather.delay_seconds + self._connection.proxy.random.uniform(0, weather.jitter_seconds)
        self._sent.put_nowait((loop.time() + delay_seconds, data))

    async def flush(self) -> None:
        """Wait until all that was sent has arrived."""
        await self._sent.join()
        await self._writer.drain()

    async def run(self) -> None:
        """Let things arrive."""
        while True:
            arrives_at_seconds, data = await self._sent.get()
            try:
                wait_seconds = arrives_at_seconds - asyncio.get_running_loop().time()
                if wait_seconds > 0:
                    await asyncio.sleep(wait_seconds)
                if self._connection.swallows():
                    continue
                self._writer.write(data)
                await self._writer.drain()
                if rate := self._connection.weather.rate:
                    await asyncio.sleep(len(data) / rate)
            finally:
                self._sent.task_done()
