"""examples/checkpoints.ipynb, executed anew, and nothing in it of the machine that ran it.

pip install nbclient ipykernel && python scripts/run_notebook.py
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parent.parent / "examples" / "checkpoints.ipynb"
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def main() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    place = {"metadata": {"path": str(NOTEBOOK.parent.parent)}}
    NotebookClient(notebook, kernel_name="python3", resources=place).execute()
    notebook.metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    for cell in notebook.cells:
        cell.metadata = {}
    text = nbformat.writes(notebook)
    # The directory of the run, and what names a table until it is shown.
    text = re.sub(r"/[\w/.-]*/tmp\w+/weights|/tmp/\w+/weights", "runs/weights", text)
    for number, name in enumerate(dict.fromkeys(re.findall(r"sc-[0-9a-f]{32}", text))):
        text = text.replace(name, f"sc-{number:032x}")
    NOTEBOOK.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
    sys.stdout.write(f"{NOTEBOOK}: {len(text):,} characters\n")


if __name__ == "__main__":
    main()
