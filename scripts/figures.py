"""Writes what `make bench` printed into docs/benchmarks.md, and some of its tables into README.md.

    make bench > figures.md
    python scripts/figures.py figures.md

No figure is typed by hand: a test holds that each row of a table about speed in the README is a
line of what was printed.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- figures: scripts/figures.py writes them -->\n", "<!-- end of figures -->\n"
# What the README shows, by the beginnings of the titles.
SHOWN = (
    "Save EfficientNet-B4",
    "Load EfficientNet-B4",
    "10 epochs of",
    "10,000 checkpoints",
    "A new process",
    "One checkpoint of",
    "validate, CONTENT",
    "The same question to .pth",
)


def main(printed: str) -> None:
    """Puts the figures where they belong."""
    replace(ROOT / "docs" / "benchmarks.md", re.sub("^#", "##", printed, flags=re.MULTILINE))
    tables = re.split(r"^#+ ", printed, flags=re.MULTILINE)
    chosen = [table for beginning in SHOWN for table in tables if table.startswith(beginning)]
    replace(ROOT / "README.md", "\n".join(f"**{title(t)}**\n\n{rows(t)}" for t in chosen))


def title(table: str) -> str:
    return table.partition("\n")[0]


def rows(table: str) -> str:
    return "".join(line + "\n" for line in table.splitlines() if line.startswith("|"))


def replace(path: Path, text: str) -> None:
    before, begin, rest = path.read_text("utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{path.name} has no place for figures")
    path.write_text(f"{before}{begin}\n{text.strip()}\n\n{end}{after}", "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]).read_text("utf-8"))
