"""What is loaded under torch.inference_mode() may be trained, and what was made under it loaded."""

from __future__ import annotations

from pathlib import Path

import torch

from smartcash_format.torch_io.load import load_checkpoint
from smartcash_format.torch_io.read_state import load_tensors
from tests.manager.training import Training, manager, same, training


def saved(root: Path) -> tuple[Path, Training]:
    made, _ = manager(root)
    live = training()
    with torch.inference_mode():
        result = made.save_checkpoint(**live.live(), epoch=1, blocking=False)
        made.close()
    return result["path"], live


def test_a_training_that_is_loaded_under_it_goes_on(tmp_path: Path) -> None:
    path, live = saved(tmp_path)
    other = training(seed=9)
    with torch.inference_mode():
        load_checkpoint(path, **other.live())
        assert torch.is_inference_mode_enabled()
    assert same(other.state(), live.state())
    losses = []
    for each in (live, other):
        torch.manual_seed(1)
        losses.append(each.step())
    assert losses[0] == losses[1]
    assert same(other.state(), live.state())


def test_states_that_are_read_under_it_are_ordinary_tensors(tmp_path: Path) -> None:
    path, _ = saved(tmp_path)
    with torch.inference_mode():
        result = load_checkpoint(path)
        states = (result["model_state_dict"], load_tensors(path))
        moments = result["optimizer_state_dict"]["state"][0]
    for tensors in (*states, moments):
        assert not any(tensor.is_inference() for tensor in tensors.values())


def test_a_model_that_was_made_under_it_is_loaded_in_and_outside_of_it(tmp_path: Path) -> None:
    path, live = saved(tmp_path)
    for inside in (True, False):
        with torch.inference_mode():
            made = training(steps=0).model
            state = {name: torch.zeros_like(each) for name, each in made.state_dict().items()}
        assert next(made.parameters()).is_inference()
        with torch.inference_mode(inside):
            load_checkpoint(path, model=made)
            load_checkpoint(path, model=state)
        assert same(dict(made.state_dict()), dict(live.model.state_dict()))
        assert same(state, dict(live.model.state_dict()))
