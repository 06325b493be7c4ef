"""Real images with boxes: scikit-learn's handwritten digits, placed on canvases.

Every training scene is composed anew, and each random generator of a usual training loop has its
part: Python's chooses the digits, numpy's places and sizes them, torch's (`augment`) changes the
light and adds noise. A resumed run repeats an uninterrupted one only if all three come back.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

CANVAS = 48
SMALLEST, LARGEST = 14, 24
MOST_DIGITS = 3
# Each digit is tried at so many places before the scene does without it.
TRIES = 10
# load_digits is ordered by writer: a cut, not a shuffle, holds out writers never trained on.
TRAINING_DIGITS = 1297
# A pixel belongs to the digit, for its box, from this share of full ink.
INK = 0.25

Scene = tuple[Tensor, Tensor]


class DigitScenes(Dataset[Scene]):
    """`count` scenes: an image (1, CANVAS, CANVAS) in 0..1 and its boxes (n, 5).

    A box is (class, centre x, centre y, width, height) in pixels, tight around the ink.
    The same index asked for twice is another scene: augmentation at its most thorough.
    """

    def __init__(self, count: int, *, held_out: bool = False) -> None:
        digits = load_digits()
        part = slice(TRAINING_DIGITS, None) if held_out else slice(TRAINING_DIGITS)
        self.count = count
        self.images = (digits.images[part] / 16.0).astype(np.float32)
        self.labels: list[int] = digits.target[part].tolist()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Scene:
        if not 0 <= index < self.count:
            raise IndexError(index)
        canvas = np.zeros((CANVAS, CANVAS), dtype=np.float32)
        boxes: list[list[float]] = []
        for chosen in random.sample(range(len(self.labels)), random.randint(1, MOST_DIGITS)):
            box = _place(canvas, self.images[chosen])
            if box is not None:
                boxes.append([float(self.labels[chosen]), *box])
        return torch.from_numpy(canvas)[None], torch.tensor(boxes)

    def as_batch(self) -> tuple[Tensor, Tensor]:
        """All scenes of one pass at once, as `collate` puts them together."""
        return collate([self[index] for index in range(self.count)])


def _place(
    canvas: npt.NDArray[np.float32], digit: npt.NDArray[np.float32]
) -> tuple[float, float, float, float] | None:
    """Draw the digit where nothing is yet; its box, or None when no free place was found."""
    size = int(np.random.randint(SMALLEST, LARGEST + 1))
    rows = np.arange(size) * len(digit) // size
    drawn = digit[np.ix_(rows, rows)]
    for _ in range(TRIES):
        top, left = np.random.randint(0, CANVAS - size + 1, 2).tolist()
        place = canvas[top : top + size, left : left + size]
        if not place.any():
            place[:] = drawn
            ys, xs = np.nonzero(drawn > INK)
            x0, x1, y0, y1 = int(xs.min()), int(xs.max()) + 1, int(ys.min()), int(ys.max()) + 1
            return left + (x0 + x1) / 2, top + (y0 + y1) / 2, float(x1 - x0), float(y1 - y0)
    return None


def collate(scenes: Sequence[Scene]) -> tuple[Tensor, Tensor]:
    """A batch: images (B, 1, H, W) and boxes (n, 6), each with its image's index first."""
    images = torch.stack([image for image, _ in scenes])
    boxes = [
        torch.cat([torch.full((len(boxes), 1), float(index)), boxes], dim=1)
        for index, (_, boxes) in enumerate(scenes)
    ]
    return images, torch.cat(boxes)


def single_digits(size: int = 16) -> tuple[Tensor, Tensor]:
    """The training digits alone, (n, 1, size, size), and their classes: for a classifier."""
    digits = load_digits()
    images = torch.from_numpy(digits.images[:TRAINING_DIGITS] / 16.0).float()[:, None]
    labels = torch.from_numpy(digits.target[:TRAINING_DIGITS])
    return functional.interpolate(images, size=size), labels


def augment(images: Tensor) -> Tensor:
    """The same scenes under another light, from dim to bright, with a noisy sensor."""
    light = torch.empty(len(images), 1, 1, 1).uniform_(0.5, 1.0)
    return images * light + 0.1 * torch.randn_like(images)
