"""Fixtures for all tests: real PostgreSQL servers, fresh databases, real processes.

One PostgreSQL 18 serves the whole run (all xdist workers), started by the first test that asks for it. Tests that stop
or kill a server take a private one.
"""

from __future__ import annotations

import compileall
import gc
import itertools
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from tests.support.cluster import DEBIAN_BINARIES, Cluster, TestRun, wheel_binaries
from tests.support.migrated import migrate_database
from tests.support.processes import Processes
from tests.support.tiers import SEED, TIER

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping

# How fast an example runs is the machine's business, which may be a busy one.
hypothesis.settings.register_profile(
    "perdure", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow], print_blob=True
)
hypothesis.settings.load_profile("perdure")

_SOURCES = Path(__file__).parents[1] / "src"
_RUN = pytest.StashKey[TestRun]()
_numbers = itertools.count(1)


def pytest_configure(config: pytest.Config) -> None:
    """Own the run's servers in the main process; know the owner's folder in the others."""
    _let_children_be_interrupted()
    worker: dict[str, Any] | None = getattr(config, "workerinput", None)
    if worker is None:
        # Where PYTHONDONTWRITEBYTECODE is set, as in many containers, each process would compile perdure again.
        compileall.compile_dir(_SOURCES, quiet=1)
    # Whoever starts many runs of pytest lets them share its servers.
    folder = os.environ.get("PERDURE_TEST_RUN") if worker is None else worker["perdure_run"]
    config.stash[_RUN] = TestRun.begin() if folder is None else TestRun.join(folder)


def pytest_report_header() -> str:
    """Say how to repeat the run's faults."""
    return f"faults: tier {TIER}, PERDURE_TEST_SEED={SEED}"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    """Tell of a failure without a collection in its midst.

    Tracebacks are told with the help of the parser, and if that is collecting when something is told of a task that has
    failed, CPython 3.11 raises SystemError: the whole run ended with it, and nobody knew which test had failed.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell an xdist worker the run's folder."""
    node.workerinput["perdure_run"] = str(node.config.stash[_RUN].folder)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the run's servers: after the last worker has ended."""
    if _RUN in config.stash:
        config.stash[_RUN].end()


@pytest.fixture(scope="session")
def test_run(pytestconfig: pytest.Config) -> TestRun:
    """Where this run's servers live."""
    return pytestconfig.stash[_RUN]


@pytest.fixture(scope="session")
def cluster(test_run: TestRun) -> Cluster:
    """The PostgreSQL 18 of this run. Don't stop it: other tests are using it."""
    return test_run.shared_cluster("pg18", wheel_binaries())


@pytest.fixture(scope="session")
def debian_cluster(test_run: TestRun) -> Cluster:
    """Debian's PostgreSQL 15, an older one that perdure supports; skips where it isn't installed."""
    if not (DEBIAN_BINARIES / "postgres").exists():
        pytest.skip(f"PostgreSQL 15 isn't installed in {DEBIAN_BINARIES} (Debian: apt-get install postgresql-15)")
    return test_run.shared_cluster("pg15", DEBIAN_BINARIES)


@pytest.fixture(params=["18", "15"])
def every_cluster(request: pytest.FixtureRequest) -> Cluster:
    """Each PostgreSQL that the tests know, one after the other."""
    found: Cluster = request.getfixturevalue("cluster" if request.param == "18" else "debian_cluster")
    return found


@pytest.fixture
def new_cluster(test_run: TestRun) -> Iterator[Callable[..., Cluster]]:
    """Make servers of one's own: `new_cluster(binaries=…, settings={…}, standby_of=…)`; gone after the test."""
    made: list[Cluster] = []

    def make(
        binaries: Path | None = None,
        settings: Mapping[str, str] | None = None,
        standby_of: Cluster | None = None,
    ) -> Cluster:
        name = f"p{os.getpid()}-{next(_numbers)}"
        made.append(test_run.new_cluster(name, binaries or wheel_binaries(), settings, standby_of=standby_of))
        return made[-1]

    yield make
    for private in made:
        private.discard()


@pytest.fixture
def private_cluster(new_cluster: Callable[..., Cluster]) -> Cluster:
    """A PostgreSQL 18 that the test may stop, restart, freeze and kill."""
    return new_cluster()


@pytest.fixture
def database(cluster: Cluster) -> Iterator[str]:
    """The dsn of a fresh, empty database on PostgreSQL 18."""
    yield from _database(cluster)


@pytest.fixture
def migrated_database(cluster: Cluster) -> Iterator[str]:
    """The dsn of a fresh database in which the migrations have run, in the schema `background_tasks`."""
    yield from _database(cluster, cluster.template("migrated", migrate_database))


@pytest.fixture
def every_database(every_cluster: Cluster) -> Iterator[str]:
    """The dsn of a fresh, empty database on each PostgreSQL that the tests know."""
    yield from _database(every_cluster)


@pytest.fixture
def every_migrated_database(every_cluster: Cluster) -> Iterator[str]:
    """As `migrated_database`, on each PostgreSQL that the tests know."""
    yield from _database(every_cluster, every_cluster.template("migrated", migrate_database))


@pytest.fixture
def processes() -> Iterator[Processes]:
    """Start real processes; at the test's end all must be gone, and their children too."""
    with Processes() as started:
        yield started


def _let_children_be_interrupted() -> None:
    """Keep children from inheriting that SIGINT is ignored, as it is in a background job of a script.

    A handler, unlike that, isn't inherited. This one does nothing: a Ctrl-C still isn't meant for this run.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda _number, _frame: None)


def _database(cluster: Cluster, template: str = "template0") -> Iterator[str]:
    name = cluster.create_database(template=template)
    yield cluster.dsn(name)
    cluster.drop_database(name)
