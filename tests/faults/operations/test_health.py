"""`perdure worker --health`: what an orchestrator is told of a worker that stands still, waits, stops, or works."""

from __future__ import annotations

import asyncio
import http.client
import json
import random
import socket
import threading
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import psutil
import pytest

from perdure.cli.together import Together
from perdure.errors import MisuseError
from perdure.worker.health import Address, Answer, HealthServer
from tests.faults.operations.nights import AT_NIGHT
from tests.faults.operations.office_jobs import start_jobs
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.cluster import Cluster
    from tests.support.processes import Process

PORTS = range(20_000, 28_000)  # beside those of the tests' servers, and of the kernel's own choice


def ask(port: int, path: str, *, method: str = "GET", timeout: float = 10) -> tuple[int, str]:
    """Ask a health endpoint; returns the status and the reason."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)) as connection:
        connection.request(method, path)
        response = connection.getresponse()
        body = response.read()
        return response.status, json.loads(body)["why"] if body else ""


def answers(port: int, path: str, status: int) -> bool:
    """Whether the endpoint answers with this status, now."""
    try:
        return ask(port, path)[0] == status
    except OSError:
        return False


def free_ports(number: int) -> int:
    """Return a port that is free, and so many beside it."""
    for _attempt in range(100):
        first = random.choice(PORTS)
        sockets = [socket.socket() for _ in range(number)]
        try:
            for offset, candidate in enumerate(sockets):
                candidate.bind(("127.0.0.1", first + offset))
        except OSError:
            continue
        else:
            return first
        finally:
            for candidate in sockets:
                candidate.close()
    pytest.fail("no free ports")


@pytest.fixture
def port() -> int:
    return free_ports(4)


def test_a_worker_that_claims_is_live_and_ready_and_says_so_on_the_loopback_alone(
    migrated_database: str, start_worker: Callable[..., Process], port: int
) -> None:
    worker = start_worker(migrated_database, "--health", str(port))
    worker.wait_for_line("^ready")
    assert ask(port, "/livez") == (200, "the event loop turns")
    status, why = ask(port, "/readyz?verbose")
    assert status == 200
    assert why.startswith("it claims jobs as worker ")
    assert ask(port, "/livez", method="HEAD") == (200, "")
    assert ask(port, "/metrics") == (404, "there are /livez and /readyz")
    listening = [
        connection.laddr.ip
        for connection in psutil.Process(worker.pid).net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening == ["127.0.0.1"]
    worker.terminate()
    assert worker.wait() == 0
    assert "GET" not in worker.output


def test_without_a_database_it_is_live_and_not_ready_and_says_why(
    private_cluster: Cluster, private_dsn: str, start_worker: Callable[..., Process], port: int
) -> None:
    private_cluster.stop()
    worker = start_worker(private_dsn, "--health", f"127.0.0.1:{port}")
    worker.wait_for_line("waiting for it")
    assert ask(port, "/livez")[0] == 200
    status, why = ask(port, "/readyz")
    assert status == 503
    assert "no connection to the database" in why
    private_cluster.start()
    worker.wait_for_line("^ready")
    assert ask(port, "/readyz")[0] == 200
    private_cluster.stop("immediate")
    worker.wait_for_line("the database is away", within_seconds=40)
    status, why = ask(port, "/readyz")
    assert status == 503
    assert why.startswith("the database is away: ")
    worker.wait_for_line("has lost its lease", within_seconds=40)
    assert ask(port, "/livez")[0] == 200
    private_cluster.start()
    wait_until(lambda: answers(port, "/readyz", 200), "not ready again")
    worker.terminate()
    assert worker.wait() == 0


def test_one_that_stops_is_live_and_not_ready(
    migrated_database: str, start_worker: Callable[..., Process], port: int, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    asyncio.run(start_jobs(migrated_database, str(gate), gate=1))
    worker = start_worker(migrated_database, "--health", str(port), shutdown_grace=600)
    worker.wait_for_line("at the gate")
    worker.terminate()
    worker.wait_for_line("SIGTERM: stopping")
    assert ask(port, "/readyz") == (503, "it is stopping")
    assert ask(port, "/livez")[0] == 200
    gate.touch()
    assert worker.wait() == 0


async def test_a_blocked_loop_is_not_live_before_the_process_ends_itself(
    migrated_database: str, start_worker: Callable[..., Process], port: int
) -> None:
    await start_jobs(migrated_database, 3600.0, block=1)
    worker = start_worker(migrated_database, "--health", str(port), max_stall=12)
    await worker.line("^blocking")
    assert ask(port, "/livez")[0] == 200  # it has only just begun
    wait_until(lambda: answers(port, "/livez", 503), "a blocked loop is called live")
    status, why = ask(port, "/livez")
    assert status == 503
    assert "the event loop hasn't turned for" in why
    await worker.line(r"the event loop hasn't turned for \d+ s \(max_stall is 12 s\)", within_seconds=40)
    assert await worker.end() == 1


@AT_NIGHT
async def test_a_frozen_process_answers_nothing_and_is_live_when_it_thaws(
    migrated_database: str, start_worker: Callable[..., Process], port: int
) -> None:
    worker = start_worker(migrated_database, "--health", str(port), max_stall=10)
    await worker.line("^ready")
    worker.freeze()
    with pytest.raises(TimeoutError):
        ask(port, "/livez", timeout=7)  # longer than a loop may stand still
    worker.thaw()
    assert ask(port, "/livez")[0] == 200  # the time in which all of it stood still doesn't count
    await worker.line("has a new lease", within_seconds=40)
    wait_until(lambda: answers(port, "/readyz", 200), "not ready after the thaw")
    worker.terminate()
    assert await worker.end() == 0


def test_several_processes_answer_each_for_itself_and_together(
    migrated_database: str, start_worker: Callable[..., Process], port: int
) -> None:
    worker = start_worker(migrated_database, "--health", str(port), "--processes", "2")
    worker.wait_for_line("^ready", within_seconds=60)
    for number in range(3):
        assert ask(port + number, "/livez")[0] == 200
        assert ask(port + number, "/readyz")[0] == 200
    first, second = sorted(psutil.Process(worker.pid).children(), key=lambda child: child.create_time())
    second.suspend()
    status, why = ask(port, "/livez")
    assert status == 503
    assert why.startswith("worker process 2: it doesn't answer")
    assert ask(port + 1, "/livez")[0] == 200
    second.resume()
    wait_until(lambda: answers(port, "/readyz", 200), "not ready after the thaw")
    first.kill()
    worker.wait_for_line("worker process 1 .* started again")
    assert ask(port, "/livez")[0] == 200  # the supervisor sees to it
    worker.wait_for_line("worker process 1 .* serves again")
    wait_until(lambda: answers(port, "/readyz", 200), "not ready after the restart")
    worker.terminate()
    assert worker.wait() == 0


@pytest.mark.parametrize("answer", ["[]", "7", '"well"', "{}", "well", ""])
def test_an_answer_of_somebody_else_is_none(port: int, answer: str) -> None:
    class Stranger(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer.encode())

    with HTTPServer(("127.0.0.1", port), Stranger) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        answered = Together([Address("127.0.0.1", port)]).live()
        server.shutdown()
    assert not answered.is_well
    assert "it doesn't answer" in answered.why


@pytest.mark.parametrize("number", ["1", "2"])
def test_a_port_that_is_taken_ends_it_with_1_and_a_line(
    migrated_database: str, start_worker: Callable[..., Process], port: int, number: str
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        worker = start_worker(migrated_database, "--health", str(port), "--processes", number)
        assert worker.wait() == 1, worker.output
    assert f"Error: --health 127.0.0.1:{port}: Address already in use" in worker.output


@pytest.mark.parametrize("address", ["http://x", "0", "70000", "localhost:", "", "localhost:٣", "9" * 5_000])
def test_an_address_that_is_none_is_not_understood(
    migrated_database: str, start_worker: Callable[..., Process], address: str
) -> None:
    worker = start_worker(migrated_database, "--health", address)
    assert worker.wait() == 2
    assert "is not [HOST:]PORT" in worker.output


def test_processes_that_would_have_no_port_are_not_understood(
    migrated_database: str, start_worker: Callable[..., Process]
) -> None:
    worker = start_worker(migrated_database, "--health", "65533", "--processes", "3")
    assert worker.wait() == 2, worker.output
    assert "Error: --health 127.0.0.1:65533 --processes 3: " in worker.output


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("8080", "127.0.0.1", 8080),
        (":80", "127.0.0.1", 80),
        ("10.0.0.1:1", "10.0.0.1", 1),
        ("[::1]:65535", "::1", 65535),
    ],
)
def test_addresses_are_read_and_written(text: str, host: str, port: int) -> None:
    address = Address.read(text)
    assert address == (host, port)
    assert Address.read(str(address)) == address


def test_a_client_that_sends_nothing_holds_up_nobody(port: int) -> None:
    with (
        HealthServer(Address("127.0.0.1", port), live=lambda: Answer.well("so"), ready=lambda: Answer.ill("not")),
        socket.create_connection(("127.0.0.1", port)) as silent,
    ):
        assert ask(port, "/livez") == (200, "so")
        assert ask(port, "/readyz") == (503, "not")
        silent.settimeout(20)
        assert silent.recv(1) == b""  # it was hung up on
    assert not [thread.name for thread in threading.enumerate() if thread.name == "perdure health"]
    with pytest.raises(MisuseError, match=r"--health 192\.0\.2\.1:"):
        HealthServer(Address("192.0.2.1", port), live=lambda: Answer.well(""), ready=lambda: Answer.well(""))


def test_whoever_asks_often_doesnt_make_the_time_go_by_faster(port: int) -> None:
    looks = list[float]()
    began_seconds = time.monotonic()
    with HealthServer(
        Address("127.0.0.1", port), live=lambda: Answer.well("so"), ready=lambda: Answer.ill("not"), look=looks.append
    ):
        for _ in range(100):
            ask(port, "/livez")
    assert sum(looks) <= time.monotonic() - began_seconds
