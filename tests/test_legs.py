"""The legs of `make test` have, or have not, what they are named after."""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

MAKEFILE = (Path(__file__).parents[1] / "Makefile").read_text(encoding="utf-8")
# What the Makefile says of torch to each leg of the suite.
SAYS = "SUITE_TORCH"
LEGS = {"test-lowest": "absent", "test-all": "present"}


@pytest.mark.skipif(SAYS not in os.environ, reason="no leg of `make test`")
def test_torch_is_here_exactly_where_the_leg_says_so() -> None:
    is_here = find_spec("torch") is not None
    assert os.environ[SAYS] == ("present" if is_here else "absent")


@pytest.mark.parametrize("leg", LEGS)
def test_a_leg_says_whether_it_has_torch(leg: str) -> None:
    (recipe,) = re.findall(rf"^{leg}:[^\n]*\n\t([^\n]*-m pytest[^\n]*)", MAKEFILE, re.MULTILINE)
    assert recipe.startswith(f"{SAYS}={LEGS[leg]} ")


@pytest.mark.parametrize("part", ["check", *LEGS])
def test_make_test_runs_every_leg(part: str) -> None:
    (needed,) = re.findall(r"^test:([^#\n]*)", MAKEFILE, re.MULTILINE)
    assert part in needed.split()
