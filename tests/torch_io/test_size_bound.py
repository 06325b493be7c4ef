"""What a save asks of the disk before its first byte is enough, and at most 1 % too much."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest import mock

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import nn

from smartcash_format.disk import publish
from smartcash_format.errors import InsufficientSpaceError
from smartcash_format.manager.checkpoint_manager import CheckpointManager
from smartcash_format.torch_io import save as saving
from smartcash_format.torch_io.collect import collect
from smartcash_format.torch_io.incremental import Increment, Memory
from smartcash_format.torch_io.save import Prepared, size_bound
from smartcash_format.torch_io.snapshot import Buffers
from tests.torch_io.saving import facts, saved

pytestmark = [pytest.mark.torch, pytest.mark.no_cover]


def of_50_megabytes() -> nn.Module:
    return nn.Sequential(nn.Linear(2_048, 2_048), nn.Linear(2_048, 2))


def of_two_thousand_tensors() -> nn.Module:
    return nn.Sequential(*(nn.Linear(32, 32) for _ in range(1_000)))


MODELS = [of_50_megabytes, of_two_thousand_tensors]


def stepped(model: nn.Module) -> torch.optim.Optimizer:
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return optimizer


@pytest.mark.parametrize("make", MODELS)
def test_the_bound_is_enough_and_at_most_one_percent_too_much(tmp_path: Path, make: object) -> None:
    assert callable(make)
    model = make()
    optimizer = stepped(model)
    asked = size_bound(collect(model=model, optimizer=optimizer), facts())
    taken = saved(tmp_path, model, optimizer=optimizer).size_bytes
    assert taken <= asked <= 1.01 * taken


VALUES = [0.0, 1.0, -1.2345678e-38, 3.4e38, math.nan, math.inf, -math.inf, 1e308, 0.1234567890123]
TENSORS = st.builds(
    lambda dtype, shape, value: torch.full(shape, value, dtype=torch.float64).to(dtype),
    st.sampled_from(
        [torch.float32, torch.float64, torch.bfloat16, torch.float8_e4m3fn, torch.bool]
    ),
    st.lists(st.integers(0, 5), max_size=3),
    st.sampled_from(VALUES),
)
STATES = st.dictionaries(st.text('ab."\u00e4', min_size=1, max_size=9), TENSORS, max_size=8)


def many(few: dict[str, torch.Tensor], count: int) -> dict[str, torch.Tensor]:
    """At most so many tensors, that are like those few."""
    turns = count // max(1, len(few))
    return {f"{name}{turn}": few[name] for turn in range(turns) for name in few}


def asked_and_taken(prepare_it: Callable[[], Prepared]) -> tuple[int, int]:
    """What a save asked of the disk, and what it took of it."""
    asked: list[int] = []
    with mock.patch.object(saving, "require_space", lambda root, needed: asked.append(needed)):
        found = saving.publish(prepare_it())
    linked = sum(found.meta.files[name].size_bytes for name in found.linked)
    assert found.size_bytes == sum(file.stat().st_size for file in found.path.iterdir())
    [needed] = asked
    return needed, found.size_bytes - linked


@given(STATES, st.integers(1, 500), st.sampled_from([4_000, 1 << 30]), st.booleans(), st.booleans())
@example({}, 1, 4_000, False, False)
@example({"zeros": torch.zeros(4)}, 1_000, 1 << 30, False, False)
@example({"nan": torch.full((4,), math.nan)}, 1_000, 4_000, False, True)
@example({"large": torch.full((4,), 1e308, dtype=torch.float64)}, 1_000, 1 << 30, False, False)
@example({"zeros": torch.zeros(4)}, 1_000, 4_000, True, False)
def test_of_any_state_the_bound_is_enough_and_at_most_one_percent_too_much(
    few: dict[str, torch.Tensor], count: int, shard_bytes: int, is_copy: bool, with_ema: bool
) -> None:
    state = many(few, count)
    buffers = Buffers() if is_copy else None
    extra = {"ema": {"w": torch.full((3,), math.nan)}} if with_ema else None
    with tempfile.TemporaryDirectory() as root:
        needed, taken = asked_and_taken(
            lambda: saving.prepare(
                Path(root, "one"),
                facts(),
                model=state,
                extra=extra,
                max_shard_bytes=shard_bytes,
                buffers=buffers,
            )
        )
    assert taken <= needed <= 1.01 * taken


@given(STATES, st.integers(1, 40), st.sets(st.integers(0, 40)))
def test_of_any_state_the_bound_of_what_is_not_linked_is_as_near(
    few: dict[str, torch.Tensor], count: int, changed: set[int]
) -> None:
    state = many(few, count)
    memory, before = Memory(), None
    with (
        tempfile.TemporaryDirectory() as root,
        mock.patch("smartcash_format.spec.shards.WORTH_A_FILE_BYTES", 64),
    ):
        for turn in range(3):
            increment = Increment(earlier=before, memory=memory, max_shard_bytes=4_000)
            before = Path(root, str(turn))
            needed, taken = asked_and_taken(
                partial(saving.prepare, before, facts(), model=state, increment=increment)
            )
            assert taken <= needed <= 1.01 * taken
            for number, name in enumerate(state):
                if number in changed:
                    state[name] = (
                        torch.ones_like(state[name]) if turn else torch.zeros_like(state[name])
                    )


@pytest.mark.parametrize("incremental", [False, True])
@pytest.mark.parametrize("blocking", [True, False])
def test_a_manager_saves_on_a_disk_with_just_that_room_and_refuses_one_with_a_byte_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blocking: bool, incremental: bool
) -> None:
    model = of_two_thousand_tensors()
    optimizer = stepped(model)
    keeper = CheckpointManager(tmp_path, incremental=incremental)

    def save_it() -> Path:
        path = keeper.save_checkpoint(model, optimizer, epoch=1, blocking=blocking)["path"]
        keeper.wait()
        assert isinstance(path, Path)
        return path

    free = [0]
    monkeypatch.setattr(publish, "free_bytes", lambda path: free[0])
    with pytest.raises(InsufficientSpaceError) as caught:
        save_it()
    needed = caught.value.needed_bytes
    free[0] = needed - 1
    with pytest.raises(InsufficientSpaceError):
        save_it()
    assert list(tmp_path.iterdir()) == []
    free[0] = needed
    path = save_it()
    taken = sum(file.stat().st_size for file in path.iterdir())
    assert taken <= needed <= 1.01 * taken
