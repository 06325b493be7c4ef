"""Runs every benchmark of this directory, one after the other: what the README claims about speed.

Each makes its data in a temporary directory, prints one Markdown table and removes the data.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent

if __name__ == "__main__":
    for script in sorted(HERE.glob("[a-z]*.py")):
        if script.name != "run.py":
            subprocess.run([sys.executable, script], check=True, cwd=HERE.parent)
