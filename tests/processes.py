"""Fresh processes, for what only a new interpreter shows."""

import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]


def run_python(*arguments: str) -> str:
    """What a fresh Python prints; one argument is a program, several are its command line."""
    command = ["-c", *arguments] if len(arguments) == 1 else list(arguments)
    done = subprocess.run(
        [sys.executable, *command], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
