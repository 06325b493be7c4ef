"""Coverage-guided fuzzing with atheris: `python -m tests.fuzz.run TARGET [SECONDS]`.

Inputs that crash or cost more than `bounds` lets them are written to the corpus, where `make test`
tries them for ever, within a second. So are small inputs that go where no seed went.
"""

from __future__ import annotations

import hashlib
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz.targets import CORPUS, seeds

# Of what never ends, so that `bounds` cannot count it: watched code takes twenty times as long.
INSTRUMENTED_S = 60
# What is kept is committed: short inputs, and not many of them.
KEPT_BYTES = 2_048
KEPT = 24


def main(target: str, seconds: int = 60) -> int:
    """The exit code of the fuzzer: 0 where nothing was found."""
    with tempfile.TemporaryDirectory() as place:
        known, new = Path(place) / "known", Path(place) / "new"
        for directory in (known, new):
            directory.mkdir()
        program = _program(Path(place), target)
        for data in seeds(target):
            (known / hashlib.sha1(data).hexdigest()).write_bytes(data)
        before = set(known.iterdir())
        options = [
            f"-max_total_time={seconds}",
            f"-timeout={INSTRUMENTED_S}",
            "-rss_limit_mb=512",
            "-max_len=65536",
            f"-artifact_prefix={CORPUS}/{target}-",
        ]
        # The fuzzer ends its process, whatever it found.
        code = subprocess.run([program, *options, new, known], check=False).returncode
        # Adds to what is known what goes elsewhere, the shortest of each.
        subprocess.run([program, "-merge=1", known, new], check=False)
        found = sorted(set(known.iterdir()) - before, key=lambda path: path.stat().st_size)
        short = [path for path in found if path.stat().st_size <= KEPT_BYTES]
        # Of each length some: the shortest alone are hardly begun.
        for path in short[:: max(1, -(-len(short) // KEPT))]:
            (CORPUS / f"{target}-{path.name[:12]}").write_bytes(path.read_bytes())
    return code


def _program(place: Path, target: str) -> Path:
    """The fuzzer of a target as one program: merging, it starts itself again."""
    program = place / target
    words = [sys.executable, "-m", "tests.fuzz.guided", target]
    program.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$0" "$@"\n')
    program.chmod(0o700)
    return program


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], *map(int, sys.argv[2:3])))
