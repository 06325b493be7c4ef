"""Train a small YOLO on handwritten digits, lose the process at any time, and go on.

    python -m examples.train_detector --output-dir runs/digits

Start it, kill it, start it again: the second start goes on after the last saved epoch, bit for
bit as if nothing had happened. `train` is the pattern to copy; the rest of the file is the
training that it keeps safe, in SmartCash's two phases: the backbone frozen, and then not.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from examples.digits_on_canvas import DigitScenes, augment, collate, single_digits
from examples.tiny_yolo import CLASSES, TinyYolo, detect, detection_loss, mean_average_precision
from smartcash_format import CheckpointManager

# Another seed than any training's: every run is measured by the same held-out scenes.
HELD_OUT_SEED = 1_000_003

Batch = tuple[Tensor, Tensor]


def configuration(epochs: int, seed: int) -> dict[str, Any]:
    """What a run is made of; saved with every checkpoint."""
    return {
        "seed": seed,
        "epochs": epochs,
        "model": {"backbone": "tiny-conv", "width": 16},
        "data": {"source": "sklearn-digits", "scenes": 512, "held_out": 200, "batch": 16},
        "training": {
            "pretraining_epochs": 4,
            "frozen_epochs": max(1, epochs // 4),
            "learning_rate": 5e-3,
            "backbone_factor": 0.5,
            "weight_decay": 1e-2,
            "averaging": 0.98,
        },
    }


def train(config: dict[str, Any], output_dir: Path, record: Path | None = None) -> None:
    """Train from wherever `output_dir` has got to until the last epoch, saving every epoch.

    `record` gets a line of JSON for each finished epoch: its metrics and the loss of every step.
    """
    training, held_out = load_data(config)
    model = TinyYolo(config["model"]["width"])
    averaged = averaged_weights(model, config)
    optimizer = build_optimizer(model, config)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config["epochs"])

    manager = CheckpointManager(output_dir)
    start = manager.load_checkpoint(
        "latest",
        model=model,
        optimizer=optimizer,
        scheduler=scheduler,
        extra={"ema": averaged},
        missing_ok=True,
    ).get("epoch", 0)
    best = manager.find_best_checkpoint()
    best_map = best.metrics["mAP50"] if best else -1.0  # below any mAP
    if start == 0:
        pretrain_backbone(model, config)
    else:
        print(f"going on after epoch {start}", flush=True)

    for epoch in range(start + 1, config["epochs"] + 1):
        frozen = epoch <= config["training"]["frozen_epochs"]
        model.backbone.requires_grad_(not frozen)
        losses = train_epoch(model, averaged, optimizer, training)
        scheduler.step()
        metrics = {"loss": sum(losses) / len(losses), **evaluate(averaged, held_out)}
        manager.save_checkpoint(
            model=model,
            optimizer=optimizer,
            scheduler=scheduler,
            config=config,
            epoch=epoch,
            metrics=metrics,
            is_best=metrics["mAP50"] > best_map,
            extra={"ema": averaged},
        )
        best_map = max(best_map, metrics["mAP50"])
        report(epoch, config["epochs"], frozen, metrics)
        if record:
            with record.open("a") as lines:
                lines.write(json.dumps({"epoch": epoch, **metrics, "losses": losses}) + "\n")


def load_data(config: dict[str, Any]) -> tuple[DataLoader[Batch], Batch]:
    """The training batches, composed anew in every pass, and all held-out scenes as one batch."""
    seed_everything(HELD_OUT_SEED)
    images, boxes = DigitScenes(config["data"]["held_out"], held_out=True).as_batch()
    held_out = augment(images), boxes
    seed_everything(config["seed"])
    scenes = DigitScenes(config["data"]["scenes"])
    return DataLoader(scenes, batch_size=config["data"]["batch"], collate_fn=collate), held_out


def averaged_weights(model: TinyYolo, config: dict[str, Any]) -> AveragedModel:
    """YOLO's averaged weights (EMA), which are what is evaluated and used in the end."""
    average = get_ema_multi_avg_fn(config["training"]["averaging"])  # type: ignore[no-untyped-call]
    return AveragedModel(model, multi_avg_fn=average, use_buffers=True)


def build_optimizer(model: TinyYolo, config: dict[str, Any]) -> torch.optim.AdamW:
    """One AdamW for both phases, so that one optimizer is all there is to save.

    A frozen parameter has no gradient, AdamW passes it by, and its moments begin with phase 2.
    The backbone learns more slowly than the head, as in SmartCash.
    """
    rate = config["training"]["learning_rate"]
    slow = rate * config["training"]["backbone_factor"]
    return torch.optim.AdamW(
        [
            {"params": model.backbone.parameters(), "lr": slow, "name": "backbone"},
            {"params": model.head.parameters(), "lr": rate, "name": "head"},
        ],
        weight_decay=config["training"]["weight_decay"],
    )


def pretrain_backbone(model: TinyYolo, config: dict[str, Any]) -> None:
    """Teach the backbone to tell single digits apart: what ImageNet is to SmartCash's."""
    images, labels = single_digits()
    to_classes = nn.Linear(model.features, CLASSES)
    classifier = nn.Sequential(model.backbone, nn.AdaptiveAvgPool2d(1), nn.Flatten(), to_classes)
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=3e-3)
    for _ in range(config["training"]["pretraining_epochs"]):
        for batch in torch.split(torch.randperm(len(images)), 64):
            loss = nn.functional.cross_entropy(classifier(augment(images[batch])), labels[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()


def train_epoch(
    model: TinyYolo,
    averaged: AveragedModel,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[Batch],
) -> list[float]:
    """One pass over the batches; the loss of every step.

    A frozen backbone keeps gathering batch statistics, as SmartCash's does: only its gradients
    are switched off. Those statistics are buffers of the model and are saved with it.
    """
    model.train()
    losses = []
    for images, boxes in batches:
        loss = detection_loss(model(augment(images)), boxes)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        averaged.update_parameters(model)
        losses.append(loss.item())
    return losses


@torch.no_grad()
def evaluate(model: nn.Module, held_out: Batch) -> dict[str, float]:
    """Loss and mAP@0.5 of the model on the held-out scenes."""
    images, boxes = held_out
    model.eval()
    cells = model(images)
    return {
        "val_loss": detection_loss(cells, boxes).item(),
        "mAP50": mean_average_precision(detect(cells), boxes),
    }


def report(epoch: int, epochs: int, frozen: bool, metrics: dict[str, float]) -> None:
    """One line for a person, at once: whoever waits wants to see each epoch when it is done."""
    phase = "backbone frozen" if frozen else "all layers"
    print(
        f"epoch {epoch:2}/{epochs}  {phase:15}  loss {metrics['loss']:.3f}"
        f"  held out: loss {metrics['val_loss']:.3f}  mAP@0.5 {metrics['mAP50']:.3f}",
        flush=True,
    )


def seed_everything(seed: int) -> None:
    """Start the three random generators of a usual training loop from one number."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and train, so that the same seed gives the same bits."""
    parser = argparse.ArgumentParser(description="Train a small YOLO on handwritten digits.")
    parser.add_argument("--output-dir", type=Path, default=Path("runs/digits"))
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", type=Path, help="a file that gets a line for each epoch")
    chosen = parser.parse_args(arguments)
    # Threads split sums by how many they are; one gives the same bits on any number of cores.
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    train(configuration(chosen.epochs, chosen.seed), chosen.output_dir, chosen.record)


if __name__ == "__main__":
    main()
