"""Answers an orchestrator's two questions over HTTP: need this process be restarted, and does it do its work?

From a thread of its own, so that it answers while the event loop is blocked. It knows nothing of workers: whoever
starts it gives it what to ask.
"""

from __future__ import annotations

import json
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET6
from socketserver import TCPServer
from typing import TYPE_CHECKING, Final, NamedTuple

from perdure.errors import MisuseError
from perdure.shown import shorten

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, Self

__all__ = ["LARGEST_PORT", "Address", "Answer", "HealthServer"]

_LIVE: Final = "/livez"
_READY: Final = "/readyz"
_LOOK_SECONDS: Final = 0.5
_CLIENT_SECONDS: Final = 5.0  # a client that sends no request doesn't keep its thread for longer
LARGEST_PORT: Final = 65_535
_LONGEST_PORT: Final = 100


class Address(NamedTuple):
    """Where to listen."""

    host: str
    port: int

    def __str__(self) -> str:
        """Write it as it is given."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def read(cls, text: str) -> Address:
        """Read `HOST:PORT`, `[::1]:PORT`, or a port alone, which is one of the loopback.

        Raises:
            ValueError: It is none of these; says what would be.
        """
        host, _, port = text.strip().rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        # The length first: of more digits Python makes no number.
        if not (port.isascii() and port.isdecimal() and len(port) < _LONGEST_PORT and 0 < int(port) <= LARGEST_PORT):
            message = (
                f"{shorten(text)} is not [HOST:]PORT, with a port from 1 to {LARGEST_PORT}: 8080, 0.0.0.0:8080, "
                "[::]:8080"
            )
            raise ValueError(message)
        return cls(host or "127.0.0.1", int(port))

    def beside(self, number: int) -> Address:
        """Return the address with so many ports more."""
        return self._replace(port=self.port + number)


class Answer(NamedTuple):
    """What is answered: whether all is well, and why it is or isn't."""

    is_well: bool
    why: str

    @classmethod
    def well(cls, why: str) -> Answer:
        """Say that all is well."""
        return cls(is_well=True, why=why)

    @classmethod
    def ill(cls, why: str) -> Answer:
        """Say that something isn't."""
        return cls(is_well=False, why=why)


class HealthServer:
    """The server and its thread, in a `with` block."""

    def __init__(
        self,
        address: Address,
        *,
        live: Callable[[], Answer],
        ready: Callable[[], Answer],
        look: Callable[[float], None] = lambda _seconds: None,
    ) -> None:
        """Listen; `with` begins to answer.

        Args:
            address: Where to listen.
            live: Whether the process need not be restarted. It and the next are called from other threads.
            ready: Whether it does its work.
            look: Called every half second or so, with the seconds since the last time.

        Raises:
            MisuseError: One can't listen there; says why.
        """
        try:
            self._server = _Server(address, {_LIVE: live, _READY: ready}, look)
        except OSError as error:
            message = f"--health {address}: {error.strerror or error}"
            raise MisuseError(message) from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=[_LOOK_SECONDS], name="perdure health", daemon=True
        )

    def __enter__(self) -> Self:
        """Begin to answer."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Answer no more, and free the port."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(
        self, address: Address, questions: dict[str, Callable[[], Answer]], look: Callable[[float], None]
    ) -> None:
        self.questions = questions
        self._look = look
        self._looked_at_seconds = time.monotonic()
        if ":" in address.host:
            self.address_family = AF_INET6
        super().__init__((address.host, address.port), _Handler)

    def service_actions(self) -> None:
        # Also after each request, when less time has passed. No more is counted when more has: this thread was frozen.
        now_seconds = time.monotonic()
        self._look(min(_LOOK_SECONDS, now_seconds - self._looked_at_seconds))
        self._looked_at_seconds = now_seconds

    def server_bind(self) -> None:
        # Not HTTPServer's: that asks the name service for the host's name, which may take long.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that go away in the midst of an answer."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride] - the one that it is made by
    timeout = _CLIENT_SECONDS
    server_version = "perdure"
    sys_version = ""

    def do_GET(self) -> None:
        self._answer(has_body=True)

    def do_HEAD(self) -> None:
        self._answer(has_body=False)

    def _answer(self, *, has_body: bool) -> None:
        question = self.server.questions.get(self.path.partition("?")[0])
        if question is None:
            status, content = HTTPStatus.NOT_FOUND, {"why": f"there are {_LIVE} and {_READY}"}
        else:
            answer = question()
            status = HTTPStatus.OK if answer.is_well else HTTPStatus.SERVICE_UNAVAILABLE
            content = {"why": answer.why}
        body = (json.dumps(content) + "\n").encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if has_body:
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the base's
        """Write nothing: an orchestrator asks every few seconds."""
