"""Power that is lost on real file systems, where this machine lets an image be mounted."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.processes import CHECKOUT

ROUNDS = 60
DISKS = {
    "ext4": (["mkfs.ext4", "-q"], ""),
    "ext4, data after names": (["mkfs.ext4", "-q"], ",data=writeback"),
    "ext4, all in the journal": (["mkfs.ext4", "-q"], ",data=journal"),
    "xfs": (["mkfs.xfs", "-q"], ""),
}


PROGRAM = """
import json, os, sys
from pathlib import Path
from typing import Any
from tests.testing.power_cut import main
if sys.argv[1] == "no fsync":
    os.fsync = lambda descriptor: None
_, _, place, rounds, options, *mkfs = sys.argv
print(json.dumps(main(Path(place), int(rounds), 0, options, mkfs)))
"""


def after_cuts(place: Path, disk: str, rounds: int, writer: str = "") -> dict[str, Any]:
    mkfs, options = DISKS[disk]
    for program in ("unshare", mkfs[0]):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}")
    # In a mount namespace of its own, so that nothing of it outlives the process.
    command = ["unshare", "--mount", sys.executable, "-c", PROGRAM, writer]
    done = subprocess.run(
        [*command, str(place), str(rounds), options, *mkfs],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.stderr.startswith("unshare:"):
        pytest.skip(f"no mount namespace here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    if "refused" in found:
        pytest.skip(f"nothing can be mounted here: {found['refused']}")
    return found


@pytest.mark.torture
@pytest.mark.parametrize("disk", DISKS)
def test_whatever_was_saved_when_power_is_lost_is_there_when_it_is_back(
    tmp_path: Path, disk: str
) -> None:
    found = after_cuts(tmp_path, disk, ROUNDS)
    assert found["broken"] == []
    assert found["saved"] > ROUNDS
    assert found["cut_in_a_save"] > ROUNDS // 10


@pytest.mark.torture
@pytest.mark.parametrize("disk", ["ext4", "xfs"])
def test_a_writer_that_does_not_sync_is_caught_by_the_loss_of_power(
    tmp_path: Path, disk: str
) -> None:
    found = after_cuts(tmp_path, disk, 8, "no fsync")
    assert any("lost: " in sentence for sentence in found["broken"])
