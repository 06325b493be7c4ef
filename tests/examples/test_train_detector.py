"""The example's training: it learns, it repeats itself, and it goes on where it was stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from examples import train_detector
from examples.same_bits import compare, saved_state
from examples.tiny_yolo import TinyYolo
from smartcash_format import CheckpointManager
from tests.examples.smallest import smallest


def _records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_detector_finds_held_out_digits_after_a_few_epochs(tmp_path: Path) -> None:
    config = train_detector.configuration(epochs=3, seed=0)
    config["data"] |= {"scenes": 384, "held_out": 64, "batch": 8}
    config["training"]["averaging"] = 0.9
    _, held_out = train_detector.load_data(config)
    untrained = train_detector.evaluate(TinyYolo(), held_out)
    train_detector.train(config, tmp_path / "run")
    best = CheckpointManager(tmp_path / "run").find_best_checkpoint()
    assert best is not None
    assert untrained["mAP50"] < 0.02
    assert best.metrics["mAP50"] > 0.15
    assert best.metrics["val_loss"] < 0.8 * untrained["val_loss"]


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(tmp_path: Path) -> None:
    config = smallest()
    for name, seed in (("first", 0), ("again", 0), ("other", 1)):
        train_detector.train(config | {"seed": seed}, tmp_path / name, tmp_path / f"{name}.jsonl")
    first, again, other = (_records(tmp_path / f"{n}.jsonl") for n in ("first", "again", "other"))
    assert compare(first, again).differences == ()
    assert [record["epoch"] for record in first] == [1, 2, 3]
    assert compare(first, other).differences != ()


@pytest.mark.parametrize("finished", [1, 2], ids=["at the phase switch", "within phase 2"])
def test_a_training_that_is_stopped_goes_on_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: int
) -> None:
    config = smallest()
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    train_detector.train(config, whole, tmp_path / "whole.jsonl")

    def stop(epoch: int, *_: object) -> None:
        if epoch == finished:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(train_detector, "report", stop)
        with pytest.raises(KeyboardInterrupt):
            train_detector.train(config, stopped)
    train_detector.train(config, stopped, tmp_path / "rest.jsonl")

    rest = _records(tmp_path / "whole.jsonl")[finished:]
    assert compare(_records(tmp_path / "rest.jsonl"), rest).differences == ()
    twins = zip(
        *(CheckpointManager(root).list_checkpoints() for root in (whole, stopped)), strict=True
    )
    for one, other in twins:
        assert one.is_best == other.is_best
        assert compare(saved_state(one.path), saved_state(other.path)).differences == ()


def test_a_frozen_backbone_keeps_its_weights_and_gets_no_moments() -> None:
    config = smallest()
    batches, _ = train_detector.load_data(config)
    model = TinyYolo(config["model"]["width"])
    averaged = train_detector.averaged_weights(model, config)
    optimizer = train_detector.build_optimizer(model, config)
    before = [parameter.clone() for parameter in model.backbone.parameters()]

    model.backbone.requires_grad_(False)
    train_detector.train_epoch(model, averaged, optimizer, batches)
    assert all(map(torch.equal, before, model.backbone.parameters()))
    assert set(optimizer.state) == set(model.head.parameters())

    model.backbone.requires_grad_(True)
    train_detector.train_epoch(model, averaged, optimizer, batches)
    assert not any(map(torch.equal, before, model.backbone.parameters()))
    assert set(optimizer.state) == set(model.parameters())
