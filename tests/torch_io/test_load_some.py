"""What of a checkpoint is loaded: what fits, and what is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from smartcash_format.errors import CheckpointError, StateMismatchError
from smartcash_format.torch_io.load import load_checkpoint
from smartcash_format.torch_io.read_state import load_tensors
from tests.torch_io import handmade
from tests.torch_io.handmade import saved_model, saved_training
from tests.torch_io.live import Net
from tests.torch_io.same import assert_same
from tests.torch_io.zoo import fresh, scheduler, stepped


def test_not_strict_loads_what_fits_and_lists_the_rest(tmp_path: Path) -> None:
    torch.manual_seed(1)
    path = saved_model(tmp_path, saved := Net(classes=3))
    live = Net(classes=7)
    head = {name: tensor.clone() for name, tensor in live.head.state_dict().items()}
    result = load_checkpoint(path, model=live, strict=False)
    assert_same(live.body.state_dict(), saved.body.state_dict())
    assert_same(dict(live.head.state_dict()), head)
    assert [str(item) for item in result.mismatched] == [
        "head.weight ([3, 4] in the checkpoint, [7, 4] here)",
        "head.bias ([3] in the checkpoint, [7] here)",
    ]


def test_not_strict_leaves_fresh_the_optimizer_state_of_what_was_not_loaded(tmp_path: Path) -> None:
    def training(classes: int) -> tuple[Net, torch.optim.Adam]:
        model = Net(classes)
        optimizer = torch.optim.Adam(model.parameters())
        model.head(torch.ones(1, 4)).sum().backward()
        optimizer.step()
        return model, optimizer

    model, optimizer = training(3)
    path = handmade.write(tmp_path / "c", **handmade.of(model, optimizer))
    live, live_optimizer = training(7)
    live_optimizer.state.clear()
    result = load_checkpoint(path, model=live, optimizer=live_optimizer, strict=False)
    assert live_optimizer.state[live.head.weight] == {}
    assert any("fresh state" in note and "head.weight" in note for note in result.notes)


def test_moments_that_fit_do_not_go_to_a_parameter_whose_tensor_was_not_there(
    tmp_path: Path,
) -> None:
    def training() -> tuple[Net, torch.optim.Adam]:
        model = Net()
        optimizer = torch.optim.Adam(model.parameters())
        model.head(torch.ones(1, 4)).sum().backward()
        optimizer.step()
        return model, optimizer

    model, optimizer = training()
    parts = handmade.of(model, optimizer)
    parts["weights"]["model"] = dict(parts["weights"]["model"])
    del parts["weights"]["model"]["head.weight"]
    path = handmade.write(tmp_path / "c", **parts)
    live, live_optimizer = training()
    live_optimizer.state.clear()
    load_checkpoint(path, model=live, optimizer=live_optimizer, strict=False)
    assert live_optimizer.state[live.head.weight] == {}
    assert_same(live_optimizer.state[live.head.bias], optimizer.state[model.head.bias])


def test_not_strict_with_nothing_that_fits_raises(tmp_path: Path) -> None:
    path = saved_model(tmp_path, {"w": torch.zeros(3)})
    with pytest.raises(StateMismatchError):
        load_checkpoint(path, model={"v": torch.zeros(3)}, strict=False)


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("plain", [True, False], ids=["state dict", "module"])
def test_an_expanded_tensor_cannot_be_written_to_and_nothing_is_changed(
    tmp_path: Path, plain: bool, strict: bool
) -> None:
    def made(value: float) -> Net:
        live = Net()
        live.register_buffer("scale", torch.full((1, 3), value).expand(4, 3))
        return live

    path = saved_model(tmp_path, made(1.0))
    live = made(2.0)
    state = live.state_dict()
    before = {name: tensor.clone() for name, tensor in state.items()}
    with pytest.raises(StateMismatchError, match=r"scale: is expanded.*clone\(\)"):
        load_checkpoint(path, model=dict(state) if plain else live, strict=strict)
    assert_same(dict(live.state_dict()), before)
    live.scale = live.get_buffer("scale").clone()
    load_checkpoint(path, model=live, strict=strict)
    assert live.scale.eq(1).all()


@pytest.mark.parametrize(
    ("component", "advice"),
    [
        ("model", "model=None"),
        ("optimizer", "save_optimizer=False"),
        ("scheduler", "scheduler=None"),
    ],
)
def test_what_is_asked_for_and_absent_raises_unless_not_strict(
    component: str, advice: str, tmp_path: Path
) -> None:
    path = handmade.write(tmp_path / "c", weights={"other": {"w": torch.zeros(1)}})
    training = fresh("SGD")
    live = {
        "model": training.model,
        "optimizer": training.optimizer,
        "scheduler": scheduler("StepLR", training.optimizer),
    }[component]
    with pytest.raises(StateMismatchError, match=advice) as caught:
        load_checkpoint(path, **{component: live})
    assert caught.value.problems[0].code == "component-absent"
    result = load_checkpoint(path, strict=False, **{component: live})
    assert component in result.absent
    assert component not in result.restored


def test_a_weights_only_load_changes_nothing_but_the_model(tmp_path: Path) -> None:
    saved = stepped("Adam")
    state = torch.Generator().manual_seed(5).get_state()
    path = saved_training(tmp_path, saved, extra={"rng": {"torch": state}})
    before = torch.get_rng_state()
    live = fresh("Adam")
    result = load_checkpoint(path, model=live.model)
    assert result.restored == ("model",)
    assert_same(torch.get_rng_state(), before)


def test_components_restore_what_they_name_and_read_nothing_else(tmp_path: Path) -> None:
    saved = stepped("Adam")
    path = saved_training(tmp_path, saved)
    file = path / "optimizer.pt"
    file.write_bytes(bytes(file.stat().st_size))
    live = fresh("Adam")
    result = load_checkpoint(path, model=live.model, optimizer=live.optimizer, components={"model"})
    assert result.restored == ("model",)
    assert not live.optimizer.state


@pytest.mark.parametrize(
    ("components", "said"),
    [
        ({"weights"}, "components has weights; it takes"),
        ({"optimizer"}, "components names optimizer, and no live object"),
        ("model", r'components names model, .*\["model_state_dict"\], is read when it is asked'),
    ],
)
def test_a_component_that_cannot_be_restored_is_named(
    components: Any, said: str, tmp_path: Path
) -> None:
    path = saved_model(tmp_path, {"w": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=said):
        load_checkpoint(path, components=components)


def test_a_live_object_without_load_state_dict_is_named(tmp_path: Path) -> None:
    path = saved_model(tmp_path, {"w": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="int, which has no load_state_dict"):
        load_checkpoint(path, model=3)


def test_a_list_of_patterns_is_no_pattern(tmp_path: Path) -> None:
    path = saved_model(tmp_path, {"w": torch.zeros(1)})
    several: Any = ["w", "b"]
    with pytest.raises(TypeError, match=r"pattern is \['w', 'b'\]; it is one shell pattern"):
        load_tensors(path, several)
