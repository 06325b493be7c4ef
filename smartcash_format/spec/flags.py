"""Arguments that are True or False: a text or a number in such a place is a mistake."""

from __future__ import annotations


def flag(value: object, what: str, hint: str = "") -> bool:
    """The flag as a bool: True, False, 1, 0, or what a comparison of numpy or torch gives.

    Raises TypeError, naming the argument, for anything else: "no" and a loss would count as True.
    """
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and value in (0, 1):
        return value == 1
    if str(getattr(value, "dtype", "")) in ("bool", "torch.bool"):
        try:
            return bool(value)
        except (RuntimeError, ValueError):
            pass  # several at once
    raise TypeError(f"{what} is {type(value).__name__}, not True or False{hint}")
