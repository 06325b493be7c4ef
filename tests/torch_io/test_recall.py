"""A layout that is taken up again: the same files as laid out anew, whatever changed in between."""

from __future__ import annotations

import gc
import pkgutil
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from smartcash_format.disk.observe import validate
from smartcash_format.errors import UnsavableStateError
from smartcash_format.spec.problems import Depth
from smartcash_format.torch_io.program import CPU
from smartcash_format.torch_io.recall import Recall, trace_state
from smartcash_format.torch_io.save import prepare, publish
from smartcash_format.torch_io.snapshot import Buffers
from tests.torch_io.saving import facts, state

pytestmark = pytest.mark.torch


class Training:
    """A model whose optimizer has three groups with one tuple of betas, and a scheduler."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(300, 400), nn.BatchNorm1d(400), nn.Linear(400, 2))
        alike = "".join(["c", "pu"])
        groups: list[dict[str, Any]] = [
            {"params": child.parameters(), "lr": 0.1, "text": f"{0.1} times", "device": alike}
            for child in self.model
        ]
        self.optimizer: Any = torch.optim.AdamW(groups, betas=(0.8, 0.9))
        self.scheduler = torch.optim.lr_scheduler.ExponentialLR(self.optimizer, 0.9)
        self.step()

    def step(self) -> None:
        self.optimizer.zero_grad()
        self.model(torch.rand(4, 300)).square().mean().backward()
        self.optimizer.step()
        self.scheduler.step()


def saved(path: Path, training: Training, **how: Any) -> dict[str, bytes]:
    """The files of a save, without what each save has of its own."""
    prepared = prepare(
        path, facts(), model=training.model, optimizer=training.optimizer,
        scheduler=training.scheduler, extra={"ema": training.model[0]}, rng=False, **how,
    )  # fmt: skip
    publish(prepared)
    assert validate(path, Depth.CONTENT).valid
    return {file.name: file.read_bytes() for file in path.iterdir() if file.name != "meta.json"}


def laid_out_anew(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what is taken apart from here on."""
    names: list[str] = []

    def noting(function: str, name_of: Callable[..., str]) -> None:
        place = f"smartcash_format.torch_io.collect.{function}"
        real: Callable[..., Any] = pkgutil.resolve_name(place)

        def noted(*arguments: Any) -> Any:
            names.append(name_of(*arguments))
            return real(*arguments)

        monkeypatch.setattr(place, noted)

    noting("encode", lambda _, where: str(where))
    noting("weights_parts", lambda source, _: str(source.name))
    return names


def _more_betas(training: Training) -> None:
    training.optimizer.param_groups[1]["betas"] = (0.7, 0.99)


def _frozen(training: Training) -> None:
    training.model[0].requires_grad_(False)
    for parameter in training.model[0].parameters():
        del training.optimizer.state[parameter]


def _halved(training: Training) -> None:
    for moments in training.optimizer.state.values():
        moments["exp_avg"] = moments["exp_avg"].to(torch.bfloat16)


def _transposed(training: Training) -> None:
    moments = training.optimizer.state[training.model[0].weight]
    moments["exp_avg"] = moments["exp_avg"].t().contiguous().t()


def _one_text(training: Training) -> None:
    """The groups have one text, where they had two that are alike."""
    text = training.optimizer.param_groups[0]["text"]
    for group in training.optimizer.param_groups:
        group["text"] = text


def _the_word(training: Training) -> None:
    """A text is the word of the program itself, where it was only like it."""
    for group in training.optimizer.param_groups:
        group["device"] = CPU


def _in_one_memory(training: Training) -> None:
    whole = torch.rand(2 * 400)
    training.model[1].weight.data, training.model[1].bias.data = whole[:400], whole[400:]


def _tied(training: Training) -> None:
    training.model[1].bias = training.model[1].weight


def _replaced(training: Training) -> None:
    training.model[2] = nn.Linear(400, 2)


def _widened(training: Training) -> None:
    training.model[0].extra = nn.Parameter(torch.ones(3))
    training.optimizer.add_param_group({"params": [training.model[0].extra]})


def _rearranged(training: Training) -> None:
    groups = training.optimizer.param_groups
    groups[0]["params"] = groups[0]["params"][::-1]


CHANGES = [
    Training.step, _more_betas, _frozen, _halved, _transposed, _in_one_memory, _tied, _replaced,
    _widened, _rearranged, _one_text, _the_word, lambda _: None,
]  # fmt: skip


@pytest.mark.no_cover
@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_the_files_are_those_of_a_layout_made_anew(
    tmp_path: Path, change: Callable[[Training], None], background: bool
) -> None:
    training, recall, buffers = Training(), Recall(), Buffers() if background else None
    for number in range(3):
        again = saved(tmp_path / f"a{number}", training, recall=recall, buffers=buffers)
        assert again == saved(tmp_path / f"b{number}", training)
        change(training) if number == 0 else training.scheduler.step()


@pytest.mark.parametrize("background", [False, True])
def test_what_has_only_other_values_is_not_laid_out_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, background: bool
) -> None:
    training, recall, buffers = Training(), Recall(), Buffers() if background else None
    saved(tmp_path / "0", training, recall=recall, buffers=buffers)
    names = laid_out_anew(monkeypatch)
    for number in range(1, 4):
        training.step()
        saved(tmp_path / str(number), training, recall=recall, buffers=buffers)
    assert names == ["scheduler"] * 3
    _widened(training)
    saved(tmp_path / "wider", training, recall=recall, buffers=buffers)
    assert sorted(names[3:]) == ["ema", "model", "optimizer", "scheduler"]


def test_values_of_groups_are_looked_at_in_every_save(tmp_path: Path) -> None:
    training, recall = Training(), Recall()
    saved(tmp_path / "0", training, recall=recall)
    training.optimizer.param_groups[1]["betas"] = (0.9, 7.0)
    with pytest.raises(UnsavableStateError, match="betas"):
        saved(tmp_path / "1", training, recall=recall)


@pytest.mark.parametrize("kind", [float, torch.tensor])
def test_a_hyperparameter_that_is_set_later_asks_for_its_entry(
    tmp_path: Path, kind: Callable[[float], Any]
) -> None:
    training, recall = Training(), Recall()
    training.optimizer = torch.optim.RMSprop(training.model.parameters(), momentum=0.0)
    training.optimizer.param_groups[0]["momentum"] = kind(0.0)
    training.step()
    saved(tmp_path / "0", training, recall=recall)
    training.optimizer.param_groups[0]["momentum"] = kind(0.9)
    with pytest.raises(UnsavableStateError, match="lacks the entry 'momentum_buffer'"):
        saved(tmp_path / "1", training, recall=recall)


def test_nothing_live_is_held(tmp_path: Path) -> None:
    training, recall = Training(), Recall()
    saved(tmp_path / "0", training, recall=recall)
    saved(tmp_path / "1", training, recall=recall)
    moments = training.optimizer.state.values()
    gone = [weakref.ref(t.untyped_storage()) for t in training.model.state_dict().values()]
    gone += [weakref.ref(tensor) for entries in moments for tensor in entries.values()]
    del training, moments
    gc.collect()
    assert [ref() for ref in gone] == [None] * len(gone)


def test_what_stands_in_two_places_is_told_from_two_that_are_alike() -> None:
    pair = [1, 2]
    assert trace_state({"a": pair, "b": pair}) != trace_state({"a": pair, "b": [1, 2]})
    assert trace_state([True]) != trace_state([1])
    assert trace_state({1: 0}) != trace_state({True: 0})
    assert trace_state([1.5, 2.5]) is not None
    assert trace_state({"a": 1.5}) != trace_state({"a": 1})
    tensor = torch.rand(3)
    assert trace_state([tensor, tensor]) is None
    assert trace_state([tensor, tensor[:2]]) is None
    assert trace_state([object()]) is None


def test_a_state_with_another_layout_is_not_told_by_its_floats() -> None:
    one, other = trace_state({"a": [0.5, 1], "b": 2.5}), trace_state({"a": [1, 0.5], "b": 2.5})
    assert one is not None
    assert other is not None
    assert one.floats == other.floats
    assert one.tokens != other.tokens


def test_a_state_that_nests_too_deep_is_refused_by_its_place(tmp_path: Path) -> None:
    training, deep = Training(), list[Any]()
    for _ in range(10_000):
        deep = [deep]
    training.optimizer.param_groups[0]["deep"] = deep
    with pytest.raises(UnsavableStateError, match=r"deep.* nests deeper than 60 levels"):
        saved(tmp_path / "0", training, recall=Recall())


def test_the_strides_of_an_axis_of_one_element_are_those_of_today(tmp_path: Path) -> None:
    model = nn.Conv2d(3, 4, 1)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.rand(2, 3, 2, 2)).sum().backward()
    optimizer.step()
    recall = Recall()
    for number, strides in enumerate([(3, 1, 1, 1), (3, 1, 3, 3)]):
        moments = optimizer.state[model.weight]
        moments["exp_avg"] = torch.empty_strided((4, 3, 1, 1), strides).zero_()
        path = tmp_path / str(number)
        publish(prepare(path, facts(), model=model, optimizer=optimizer, recall=recall))
        assert state(path, "optimizer.pt")["state"][0]["exp_avg"].stride() == strides


def test_data_that_is_replaced_during_a_save_is_not_read(tmp_path: Path) -> None:
    training = Training()
    value = training.optimizer.state[training.model[0].weight]["exp_avg"]
    before = value.clone()
    prepared = prepare(tmp_path / "0", facts(), model=training.model, optimizer=training.optimizer)
    # Of the same size, in a memory of four bytes.
    value.data = torch.zeros(1).expand(value.shape)
    publish(prepared)
    assert torch.equal(state(tmp_path / "0", "optimizer.pt")["state"][0]["exp_avg"], before)


def _cut_off(tensor: torch.Tensor) -> torch.Tensor:
    """Such a tensor behind the end of its own memory, which has its size."""
    cut = torch.zeros(2 * tensor.numel())[tensor.numel() :].view(tensor.shape)
    cut.untyped_storage().resize_(tensor.nbytes)
    return cut


def test_freed_memory_of_the_right_size_is_refused(tmp_path: Path) -> None:
    training, recall = Training(), Recall()
    saved(tmp_path / "0", training, recall=recall)
    moments = training.optimizer.state[training.model[2].weight]
    whole, moments["exp_avg"] = moments["exp_avg"], _cut_off(moments["exp_avg"])
    with pytest.raises(UnsavableStateError, match=r"exp_avg.*freed"):
        saved(tmp_path / "1", training, recall=recall)
    moments["exp_avg"] = whole
    training.model[2].weight.data = _cut_off(whole)
    with pytest.raises(UnsavableStateError, match=r"2\.weight has freed"):
        saved(tmp_path / "2", training, recall=recall)


def test_layouts_of_names_that_are_gone_are_forgotten(tmp_path: Path) -> None:
    recall = Recall()
    for number in range(4):
        extra = {f"ema_{number}": nn.Linear(2, 2)}
        publish(
            prepare(
                tmp_path / str(number), facts(), model=nn.Linear(2, 2), extra=extra, recall=recall
            )
        )
    assert sorted(recall._weights) == ["ema_3", "model"]
