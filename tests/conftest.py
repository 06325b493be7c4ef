"""What the whole suite shares: the half that needs torch, and how hypothesis draws."""

import os
import signal
from collections.abc import Generator, Iterator
from importlib.util import find_spec

import pytest
from hypothesis import HealthCheck, settings

from tests.ready import Ready, waiting
from tests.tracing import untraced

# The tests of the rooms that hold live objects. Where torch is not installed they are left out, and
# the header says so; anything else that fails to import there is an error. A test elsewhere that
# needs torch bears the marker `torch`.
TORCH_HALF = (
    "torch_io",
    "manager",
    "integrations",
    "real",
    "scanners",
    "examples",
    "test_seed.py",
    "test_readme.py",
)
WITH_TORCH = find_spec("torch") is not None

# Before torch is imported, here and in every process that a test starts: two threads that wait for
# each other by spinning, beside another worker's two, cost more than the tests' few numbers do.
os.environ.setdefault("OMP_NUM_THREADS", "1")

collect_ignore_glob = [] if WITH_TORCH else list(TORCH_HALF)

# The same examples in every run, so that a red suite means a changed project; `make torture` draws
# anew and many more. No deadline and no health check of speed: two busy cores are not a finding.
settings.register_profile(
    "suite",
    deadline=None,
    derandomize=True,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "explore", parent=settings.get_profile("suite"), derandomize=False, max_examples=2_000
)
settings.load_profile("suite")


def pytest_configure() -> None:
    # A shell that starts something in the background has it ignore Ctrl-C; some tests press it.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """A test marked `no_cover` is not traced in the processes of xdist either.

    The marker is pytest-cov's, which there stops the later of two tracers and so resumes the other.
    Tracing makes our own code take two to four times as long; a test bears the marker where that is
    long and it runs no line that no other test runs.
    """
    if pyfuncitem.get_closest_marker("no_cover"):
        pyfuncitem.obj = untraced(pyfuncitem.obj)
    return (yield)


@pytest.fixture(scope="session")
def ready() -> Iterator[Ready]:
    """Runs a program in a process that has torch loaded already."""
    with waiting() as run:
        yield run


def pytest_report_header() -> str:
    if WITH_TORCH:
        return "torch: installed, the whole suite"
    return f"torch: not installed, left out: {', '.join(TORCH_HALF)} and the marker `torch`"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if WITH_TORCH:
        return
    for item in items:
        if item.get_closest_marker("torch"):
            item.add_marker(pytest.mark.skip(reason="torch is not installed"))
