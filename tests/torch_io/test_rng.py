"""Random numbers go on where they were; what is not here to be set is said, not raised."""

from __future__ import annotations

import random
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from smartcash_format.torch_io import rng
from smartcash_format.torch_io.state import StateFormError, decode, encode

pytestmark = pytest.mark.torch


def draws() -> tuple[Any, ...]:
    return (
        random.random(),
        random.gauss(0, 1),
        np.random.random(3).tolist(),
        np.random.standard_normal(),
        torch.rand(3).tolist(),
        torch.randn(1).item(),
    )


def test_every_generator_goes_on_where_it_was() -> None:
    # An odd number of normal draws leaves one behind, which is state as well.
    random.gauss(0, 1)
    np.random.standard_normal()
    state = decode(encode(rng.capture(), "rng"))
    expected = draws()
    assert draws() != expected
    assert rng.restore(state) == ()
    assert draws() == expected


@pytest.mark.parametrize("kept", [rng.PYTHON, rng.NUMPY, rng.TORCH])
def test_only_what_the_state_has_is_set(kept: str) -> None:
    state = rng.capture()
    before = draws()
    middle = rng.capture()
    after = draws()
    rng.restore(middle)
    rng.restore({kept: state[kept]})
    found = draws()
    pairs = {rng.PYTHON: slice(0, 2), rng.NUMPY: slice(2, 4), rng.TORCH: slice(4, 6)}
    for name, place in pairs.items():
        assert found[place] == (before if name == kept else after)[place]


DAMAGED: list[dict[str, Any]] = [
    {rng.PYTHON: (3, (1, 2), None)},
    {rng.PYTHON: "x"},
    {rng.NUMPY: {"bit_generator": "MT19937", "state": {}}},
    {rng.NUMPY: 3},
    {rng.TORCH: torch.zeros(3, dtype=torch.uint8)},
    {rng.TORCH: torch.zeros(5056)},
    {rng.TORCH: None},
    {rng.ACCELERATOR: {"type": "cuda", "states": [3]}},
    {rng.ACCELERATOR: {"type": "cuda"}},
]


@pytest.mark.parametrize("damaged", DAMAGED, ids=str)
def test_a_damaged_state_is_refused_and_nothing_is_set(damaged: dict[str, Any]) -> None:
    state = rng.capture()
    mixed = {**state, **damaged}
    draws()
    current = rng.capture()
    expected = draws()
    rng.restore(current)
    with pytest.raises(StateFormError, match="no generator takes"):
        rng.restore(mixed)
    assert "no generator takes" in str(rng.fault(mixed))
    assert draws() == expected


def test_a_state_that_is_no_mapping_is_refused() -> None:
    with pytest.raises(StateFormError, match="no mapping"):
        rng.restore(None)  # type: ignore[arg-type]
    assert rng.fault(rng.capture()) is None


def test_another_global_bit_generator_of_numpy_is_said_and_not_set() -> None:
    state = {**rng.capture()[rng.NUMPY], "bit_generator": "Philox"}
    (note,) = rng.restore({rng.NUMPY: state})
    assert "Philox" in note
    assert "MT19937" in note


def test_a_device_that_is_not_here_is_said_and_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    state = {rng.ACCELERATOR: {"type": "cuda", "states": [torch.zeros(16, dtype=torch.uint8)]}}
    (note,) = rng.restore(state)
    assert "cuda" in note
    assert "CPU" in note


class Device:
    """What torch.cuda has, as far as random numbers go."""

    def __init__(self, count: int, *, started: bool = True) -> None:
        self.states = [torch.full((16,), i, dtype=torch.uint8) for i in range(count)]
        self.started = started

    def is_initialized(self) -> bool:
        return self.started

    def get_rng_state_all(self) -> list[torch.Tensor]:
        self.started = True
        return self.states

    def set_rng_state(self, state: torch.Tensor, index: int) -> None:
        self.states[index] = state

    def set_rng_state_all(self, states: list[torch.Tensor]) -> None:
        raise AssertionError("sets devices that are not here")


class Single:
    """What torch.mps has, as far as random numbers go."""

    def __init__(self) -> None:
        self.state = torch.zeros(44, dtype=torch.uint8)

    def get_rng_state(self) -> torch.Tensor:
        return self.state

    def set_rng_state(self, state: torch.Tensor) -> None:
        self.state = state


def use(monkeypatch: pytest.MonkeyPatch, kind: str, module: Any, count: int) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    device = SimpleNamespace(type=kind)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: device)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: count)
    monkeypatch.setattr(torch, "get_device_module", lambda kind: module)


def test_every_device_of_the_accelerator_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, "cuda", Device(2), 2)
    state = rng.capture()
    assert [int(each[0]) for each in state[rng.ACCELERATOR]["states"]] == [0, 1]
    here = Device(2)
    here.states.reverse()
    use(monkeypatch, "cuda", here, 2)
    assert rng.restore(state) == ()
    assert [int(each[0]) for each in here.states] == [0, 1]


@pytest.mark.parametrize("count", [1, 3])
def test_as_many_devices_are_set_as_there_are(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    use(monkeypatch, "cuda", Device(2), 2)
    state = rng.capture()
    here = Device(count)
    use(monkeypatch, "cuda", here, count)
    (note,) = rng.restore({rng.ACCELERATOR: state[rng.ACCELERATOR]})
    assert f"2 cuda devices were saved, and {count} are here" in note


def test_an_accelerator_of_one_device_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    saved = Single()
    saved.state = torch.ones(44, dtype=torch.uint8)
    use(monkeypatch, "mps", saved, 1)
    state = rng.capture()
    here = Single()
    use(monkeypatch, "mps", here, 1)
    assert rng.restore(state) == ()
    assert here.state is state[rng.ACCELERATOR]["states"][0]


def test_an_accelerator_that_is_not_in_use_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    module = Device(2, started=False)
    use(monkeypatch, "cuda", module, 2)
    assert rng.ACCELERATOR not in rng.capture()
    assert not module.started


@pytest.mark.no_cover
def test_numpy_is_not_imported_for_a_program_that_does_without() -> None:
    program = """
import sys
from smartcash_format.torch_io import rng
sys.modules.pop("numpy", None)
assert rng.NUMPY not in rng.capture()
assert "numpy" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def generators() -> list[Any]:
    kinds = (np.random.PCG64, np.random.Philox, np.random.MT19937, np.random.SFC64)
    numpy = [np.random.Generator(kind(7)) for kind in kinds]
    return [*numpy, np.random.RandomState(7), random.Random(7), torch.Generator().manual_seed(7)]


def draw(live: Any) -> Any:
    if isinstance(live, torch.Generator):
        return torch.rand(3, generator=live).tolist()
    return live.random() if isinstance(live, random.Random) else live.standard_normal(3).tolist()


@pytest.mark.parametrize("index", range(7))
def test_a_generator_of_the_users_goes_on_where_it_was(index: int) -> None:
    live, other = generators()[index], generators()[index]
    draw(live)
    state = decode(encode(rng.generator_state(live), "state"))
    expected = draw(live)
    assert rng.set_generator(other, state)
    assert draw(other) == expected


def test_what_is_no_generator_has_no_such_state() -> None:
    assert rng.generator_state(torch.nn.Linear(1, 1)) is None
    assert not rng.set_generator(torch.nn.Linear(1, 1), {})


def test_a_state_of_another_kind_of_generator_is_refused() -> None:
    state = rng.generator_state(np.random.Generator(np.random.PCG64(1)))
    assert state is not None
    with pytest.raises(ValueError, match="PRNG"):
        rng.set_generator(np.random.Generator(np.random.MT19937(1)), state)
