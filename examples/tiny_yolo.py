"""A YOLO in miniature: backbone, one detection grid, the three losses, decoding and mAP.

Boxes are (centre x, centre y, width, height) in pixels, as in YOLO's label files but not scaled.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

CLASSES = 10
STRIDE = 8
# One anchor, the usual digit: widths and heights are predicted as up to four times it.
ANCHOR = 16.0
# How the three losses are weighed; YOLOv5 also gives the box the largest say per object.
BOX_GAIN, OBJECT_GAIN, CLASS_GAIN = 2.0, 4.0, 1.0


def _block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.SiLU(),
    )


class TinyYolo(nn.Module):
    """One grid of cells of STRIDE pixels; each cell answers for the object centred in it.

    Output (B, H / 8, W / 8, 5 + CLASSES), raw: x, y, width, height, objectness, classes.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.features = 4 * width
        self.backbone = nn.Sequential(
            _block(1, width, stride=2),
            _block(width, 2 * width, stride=2),
            _block(2 * width, self.features, stride=2),
            _block(self.features, self.features),
        )
        predict = nn.Conv2d(self.features, 5 + CLASSES, 1)
        self.head = nn.Sequential(_block(self.features, self.features), nn.Dropout2d(0.05), predict)
        # At first nearly every cell is empty: starting from that spares the first epochs.
        assert predict.bias is not None
        nn.init.constant_(predict.bias[4:5], math.log(0.05 / 0.95))

    def forward(self, images: Tensor) -> Tensor:
        cells: Tensor = self.head(self.backbone(images))
        return cells.permute(0, 2, 3, 1)


def decode(cells: Tensor) -> Tensor:
    """Boxes (B, rows, columns, 4) in pixels from raw output, with YOLOv5's bounded formulas."""
    _, rows, columns, _ = cells.shape
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    squashed = cells[..., :4].sigmoid()
    centre = (torch.stack([x, y], dim=-1) - 0.5 + 2 * squashed[..., :2]) * STRIDE
    return torch.cat([centre, (2 * squashed[..., 2:]).square() * ANCHOR], dim=-1)


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of boxes (..., 4), broadcast over the leading dimensions."""
    overlap = _overlap(a, b)
    return overlap / (a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - overlap + 1e-9)


def _overlap(a: Tensor, b: Tensor) -> Tensor:
    lower = torch.maximum(a[..., :2] - a[..., 2:] / 2, b[..., :2] - b[..., 2:] / 2)
    upper = torch.minimum(a[..., :2] + a[..., 2:] / 2, b[..., :2] + b[..., 2:] / 2)
    return (upper - lower).clamp(min=0).prod(-1)


def detection_loss(cells: Tensor, targets: Tensor) -> Tensor:
    """YOLO's loss: objectness over all cells, box and class where an object is centred.

    `cells` is the raw output, `targets` (n, 6): image, class, centre x, centre y, width, height.
    """
    image, kind = targets[:, 0].long(), targets[:, 1].long()
    column, row = (targets[:, 2:4] / STRIDE).long().unbind(1)
    mine = cells[image, row, column]
    overlap = iou(decode(cells)[image, row, column], targets[:, 2:])
    objects = torch.zeros_like(cells[..., 4])
    objects[image, row, column] = 1.0
    return (
        BOX_GAIN * (1 - overlap).mean()
        + OBJECT_GAIN * functional.binary_cross_entropy_with_logits(cells[..., 4], objects)
        + CLASS_GAIN * functional.cross_entropy(mine[:, 5:], kind)
    )


def detect(cells: Tensor, *, least: float = 0.05, same: float = 0.5) -> Tensor:
    """What is found: (n, 7), each image, class, centre x, centre y, width, height, score.

    Scores are at least `least`; of boxes in one image whose IoU is over `same` the surest stays.
    """
    certainty, classes = cells[..., 5:].softmax(-1).max(-1)
    scores = (cells[..., 4].sigmoid() * certainty).flatten(1)
    boxes = decode(cells).flatten(1, 2)
    kinds = classes.flatten(1)
    found = []
    for image in range(len(cells)):
        cell = scores[image].argsort(descending=True, stable=True)
        cell = cell[scores[image, cell] >= least]
        cell = cell[_surest(boxes[image, cell], same)]
        where = torch.full((len(cell), 1), float(image))
        seen = (where, kinds[image, cell, None], boxes[image, cell], scores[image, cell, None])
        found.append(torch.cat(seen, dim=1))
    return torch.cat(found)


def _surest(boxes: Tensor, same: float) -> list[int]:
    """Non-maximum suppression: indices of the boxes that no surer (earlier) kept one covers."""
    covers = (iou(boxes[:, None], boxes[None]) > same).tolist()
    kept: list[int] = []
    for candidate in range(len(boxes)):
        if not any(covers[candidate][other] for other in kept):
            kept.append(candidate)
    return kept


def mean_average_precision(found: Tensor, targets: Tensor, *, enough: float = 0.5) -> float:
    """mAP at IoU `enough`: the area under each class's precision envelope, averaged.

    `found` (n, 7) as `detect` gives it, `targets` (n, 6) as in `detection_loss`. Classes without
    a target do not count.
    """
    kinds = sorted(set(targets[:, 1].tolist()))
    areas = [
        _average_precision(found[found[:, 1] == kind], targets[targets[:, 1] == kind], enough)
        for kind in kinds
    ]
    return sum(areas) / len(areas)


def _average_precision(found: Tensor, targets: Tensor, enough: float) -> float:
    """One class: the surest claim chooses first, and each target can be found once."""
    found = found[found[:, 6].argsort(descending=True, stable=True)]
    same_image = found[:, None, 0] == targets[None, :, 0]
    overlaps = iou(found[:, None, 2:6], targets[None, :, 2:]) * same_image
    hits: list[bool] = []
    for claim in overlaps:
        best, target = claim.max(0)
        hits.append(best.item() >= enough)
        if hits[-1]:
            overlaps[:, target] = 0.0
    return _area_under_envelope(hits, len(targets))


def _area_under_envelope(hits: list[bool], targets: int) -> float:
    """Each hit adds 1 / targets of recall at the best precision from there on."""
    area, envelope, right = 0.0, 0.0, sum(hits)
    for claims in range(len(hits), 0, -1):
        if hits[claims - 1]:
            envelope = max(envelope, right / claims)
            area += envelope / targets
            right -= 1
    return area
