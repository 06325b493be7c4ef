"""Where the process begins: Ctrl-C ends it alike, also while the command is still imported."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the command; 130 when it is stopped, without a traceback."""
    try:
        # What is imported here takes the time in which somebody presses the keys.
        from smartcash_format.cli.main import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)  # as `exits.INTERRUPTED`, which may not be there yet
