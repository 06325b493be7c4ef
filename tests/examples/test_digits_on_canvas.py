"""The example's scenes: where the boxes lie, who was held out, and which chance they take."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch

from examples.digits_on_canvas import (
    CANVAS,
    MOST_DIGITS,
    DigitScenes,
    Scene,
    augment,
    collate,
    single_digits,
)


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _each(scenes: DigitScenes) -> list[Scene]:
    return [scenes[index] for index in range(len(scenes))]


def test_all_ink_lies_in_the_boxes_and_every_box_holds_ink() -> None:
    _seed(0)
    for image, boxes in _each(DigitScenes(20)):
        assert 1 <= len(boxes) <= MOST_DIGITS
        left = image[0].clone()
        for _, x, y, width, height in boxes.tolist():
            place = left[int(y - height / 2) : int(y + height / 2)]
            place = place[:, int(x - width / 2) : int(x + width / 2)]
            assert place.max() > 0.25
            place.zero_()
        assert left.max() <= 0.25


def test_the_same_seed_gives_the_same_scenes_and_each_pass_gives_others() -> None:
    scenes = DigitScenes(4)
    _seed(1)
    first, second = scenes.as_batch(), scenes.as_batch()
    _seed(1)
    again = scenes.as_batch()
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], second[0])


@pytest.mark.parametrize("reseed", [random.seed, np.random.seed, torch.manual_seed])
def test_each_of_the_three_random_generators_changes_the_images(
    reseed: Callable[[int], object],
) -> None:
    scenes = DigitScenes(4)
    _seed(2)
    before = augment(scenes.as_batch()[0])
    _seed(2)
    reseed(3)
    assert not torch.equal(before, augment(scenes.as_batch()[0]))


def test_held_out_scenes_are_made_of_digits_that_training_never_sees() -> None:
    training = {image.tobytes() for image in DigitScenes(1).images}
    held_out = DigitScenes(1, held_out=True).images
    assert len(held_out) == 500
    assert len({image.tobytes() for image in held_out} & training) == 0


def test_a_batch_names_the_image_of_each_box() -> None:
    _seed(3)
    scenes = _each(DigitScenes(3))
    images, boxes = collate(scenes)
    assert images.shape == (3, 1, CANVAS, CANVAS)
    for index, (_, own) in enumerate(scenes):
        assert torch.equal(boxes[boxes[:, 0] == index, 1:], own)


def test_digits_alone_come_in_the_size_that_is_asked_for() -> None:
    images, labels = single_digits(size=16)
    assert images.shape == (len(labels), 1, 16, 16)
    assert labels.min() == 0
    assert labels.max() == 9
