"""Coverage-guided fuzzing with atheris: `python -m tests.fuzz.run TARGET [SECONDS]`.

Inputs that crash, take over a second or 512 MiB of the whole process are written to the corpus,
where `make test` tries them for ever.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["smartcash_format", "pickle", "zipfile"]):
    from tests.fuzz.targets import CORPUS, TARGETS, seeds


def main(target: str, seconds: int = 60) -> None:
    with tempfile.TemporaryDirectory() as directory:
        for number, data in enumerate(seeds(target)):
            (Path(directory) / str(number)).write_bytes(data)
        options = [
            f"-max_total_time={seconds}",
            "-timeout=1",
            "-rss_limit_mb=512",
            "-max_len=65536",
            f"-artifact_prefix={CORPUS}/{target}-",
        ]
        atheris.Setup([sys.argv[0], directory, *options], TARGETS[target])
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:3]))
