"""Arguments that are True or False."""

from __future__ import annotations

from typing import Any

import pytest

from smartcash_format.spec.flags import flag


class Compared:
    """What a comparison of an array of one element gives, or of several."""

    def __init__(self, *values: bool, dtype: str = "bool") -> None:
        self.dtype = dtype
        self._values = values

    def __bool__(self) -> bool:
        (value,) = self._values
        return value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, True), (False, False), (1, True), (0, False),
        (Compared(True), True), (Compared(False, dtype="torch.bool"), False),
    ],
)  # fmt: skip
def test_a_flag_is_true_or_false_or_what_a_comparison_gives(value: Any, expected: bool) -> None:
    assert flag(value, "strict") is expected


@pytest.mark.parametrize(
    "value",
    ["no", "False", "", None, 2, -1, 0.0, 0.5, [], [True], {}, Compared(True, dtype="float32"),
     Compared(True, False)],
)  # fmt: skip
def test_what_only_counts_as_one_of_them_is_refused_by_the_name_of_its_argument(value: Any) -> None:
    with pytest.raises(TypeError, match=rf"^strict is {type(value).__name__}, not True or False$"):
        flag(value, "strict")
