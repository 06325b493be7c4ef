"""Times, and tables of Markdown whose rows are printed as they come."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    # Kept until the clock has stopped: who asks does not wait for it to be thrown away.
    answer = call()
    took = time.perf_counter() - began
    del answer
    return took


class Table:
    """Rows of Markdown, printed as they come."""

    def __init__(self, title: str, *columns: str) -> None:
        print(f"\n### {title}\n\n| {' | '.join(columns)} |")
        print(f"|{' --- |' * len(columns)}")

    def row(self, *cells: str) -> None:
        print(f"| {' | '.join(cells)} |", flush=True)


def milliseconds(values: list[float]) -> str:
    return f"{statistics.median(values) * 1e3:,.4g} ms"
