"""The pieces of the example's detector that can be right or wrong by themselves."""

from __future__ import annotations

import pytest
import torch

from examples.tiny_yolo import (
    ANCHOR,
    CLASSES,
    STRIDE,
    TinyYolo,
    decode,
    detect,
    detection_loss,
    iou,
    mean_average_precision,
)

# Two images: a 3 and a 7 in the first, a 3 in the second. Image, class, x, y, width, height.
TARGETS = torch.tensor(
    [
        [0.0, 3.0, 12.0, 12.0, 10.0, 16.0],
        [0.0, 7.0, 36.0, 20.0, 16.0, 16.0],
        [1.0, 3.0, 20.0, 28.0, 12.0, 20.0],
    ]
)


def _perfect_cells() -> torch.Tensor:
    """Raw output that says exactly TARGETS: the formulas of `decode`, turned around."""
    cells = torch.full((2, 6, 6, 5 + CLASSES), -12.0)
    for image, kind, x, y, width, height in TARGETS.tolist():
        column, row = int(x // STRIDE), int(y // STRIDE)
        centre = (torch.tensor([x, y]) / STRIDE - torch.tensor([column, row]) + 0.5) / 2
        size = (torch.tensor([width, height]) / ANCHOR).sqrt() / 2
        cell = cells[int(image), row, column]
        cell[:4] = torch.cat([centre, size]).logit()
        cell[4] = cell[5 + int(kind)] = 12.0
    return cells


def _claims(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows).reshape(-1, 7)


def test_decoding_gives_the_boxes_that_were_meant() -> None:
    boxes = decode(_perfect_cells())
    assert torch.allclose(boxes[0, 1, 1], TARGETS[0, 2:], atol=1e-4)
    assert torch.allclose(boxes[0, 2, 4], TARGETS[1, 2:], atol=1e-4)
    assert torch.allclose(boxes[1, 3, 2], TARGETS[2, 2:], atol=1e-4)


def test_perfect_output_has_almost_no_loss_and_a_moved_box_has_more() -> None:
    moved = TARGETS + torch.tensor([0.0, 0.0, 3.0, 0.0, 0.0, 0.0])
    perfect = detection_loss(_perfect_cells(), TARGETS).item()
    assert perfect < 1e-3
    assert detection_loss(_perfect_cells(), moved).item() > perfect + 0.1


def test_iou_of_a_box_with_itself_with_half_and_with_none_of_it() -> None:
    box = torch.tensor([10.0, 10.0, 8.0, 8.0])
    others = torch.tensor([[10.0, 10.0, 8.0, 8.0], [10.0, 8.0, 8.0, 4.0], [30.0, 10.0, 8.0, 8.0]])
    assert torch.allclose(iou(box, others), torch.tensor([1.0, 0.5, 0.0]))


def test_of_two_boxes_at_one_place_the_surer_is_detected() -> None:
    cells = _perfect_cells()
    cells[0, 1, 2] = cells[0, 1, 1]
    cells[0, 1, 2, 0] = torch.tensor((12.0 / STRIDE - 2 + 0.5) / 2 + 0.01).logit()
    cells[0, 1, 2, 4] = 1.0
    found = detect(cells)
    assert found[found[:, 0] == 0, 1].tolist() == [3.0, 7.0]
    assert found[0, 6].item() > 0.99


def test_an_empty_image_has_no_detections() -> None:
    assert detect(torch.full((1, 6, 6, 5 + CLASSES), -12.0)).shape == (0, 7)


def test_finding_everything_is_map_one_and_finding_nothing_is_zero() -> None:
    assert mean_average_precision(detect(_perfect_cells()), TARGETS) == 1.0
    assert mean_average_precision(_claims(), TARGETS) == 0.0


def test_a_target_is_found_once_and_only_in_its_own_image_and_class() -> None:
    first, second, third = ([*row, 0.9] for row in TARGETS.tolist())
    twice = _claims(first, [*first[:6], 0.8], second, third)
    # The second claim on the same 3 stands between two hits: precisions 1 and 2/3 for class 3.
    assert mean_average_precision(
        torch.cat([twice[:2], _claims(second, [*third[:6], 0.7])]), TARGETS
    ) == pytest.approx(((1 + 2 / 3) / 2 + 1) / 2)
    elsewhere = _claims([1.0, *first[1:]], [0.0, 3.0, *second[2:]], [0.0, *third[1:]])
    assert mean_average_precision(elsewhere, TARGETS) == 0.0


def test_each_cell_of_the_grid_predicts_a_box_an_object_and_the_classes() -> None:
    assert TinyYolo(width=4)(torch.zeros(2, 1, 48, 40)).shape == (2, 6, 5, 5 + CLASSES)
