"""One run of the fuzzer, in a process that it ends: TARGET PROGRAM OPTION..., as libFuzzer does.

PROGRAM is what starts all of this once more. Only what is imported here is watched.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["smartcash_format", "pickle", "zipfile"]):
    from tests.fuzz.bounds import bounded
    from tests.fuzz.targets import TARGETS

if __name__ == "__main__":
    atheris.Setup(sys.argv[2:], bounded(TARGETS[sys.argv[1]]))
    atheris.Fuzz()
