"""Sizes as people write them: `5GB`, `500 MB`, `2GiB`, or a number of bytes."""

from __future__ import annotations

import re
from typing import Final

# Powers of ten, as huggingface_hub reads the same words; of two with an i.
_UNITS: Final = {
    "": 1,
    "B": 1,
    **{f"{unit}B": 1000**power for power, unit in enumerate("KMGT", start=1)},
    **{f"{unit}IB": 1024**power for power, unit in enumerate("KMGT", start=1)},
}
_SIZE: Final = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)\s*((?:(?:[KMGT]i?)?B)?)", re.IGNORECASE)


def parse_size(size: str | int) -> int:
    """A size in bytes: a number of them, or text such as "5GB", "500 MB" or "2GiB".

    Raises ValueError for anything else, and for less than one byte.
    """
    found = 0
    if isinstance(size, str):
        if (match := _SIZE.fullmatch(size.strip())) is not None:
            found = int(float(match[1]) * _UNITS[match[2].upper()])
    elif not isinstance(size, bool) and isinstance(size, int):
        found = size
    if found < 1:
        raise ValueError(f"{size!r:.80} is no size; it is a number of bytes, such as 500MB or 2GiB")
    return found
