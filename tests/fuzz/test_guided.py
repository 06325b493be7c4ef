"""Minutes of coverage-guided fuzzing, where atheris installs; what it finds stays in the corpus."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.fuzz.targets import TARGETS
from tests.processes import CHECKOUT

SECONDS = 120


@pytest.mark.torture
@pytest.mark.parametrize("target", TARGETS)
def test_no_input_that_a_fuzzer_finds_crashes_or_hangs(target: str) -> None:
    pytest.importorskip("atheris", reason="atheris is not installed: `make torture` tries to")
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.run", target, str(SECONDS)],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
