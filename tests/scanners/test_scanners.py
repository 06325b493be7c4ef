"""What public scanners say of what is written here (`make scanners`): nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from smartcash_format.manager.functions import save_checkpoint
from smartcash_format.torch_io.optimizer_state import TABLE
from tests.contract.make import EXAMPLES
from tests.torch_io import zoo

pytestmark = [pytest.mark.scanners, pytest.mark.torch]

GOLDEN = Path(__file__).parents[1] / "golden" / "v1.0"
# Not listed as harmless by picklescan, and so dangerous to --strict: MultiStepLR keeps its
# milestones in one, torch's restricted reader takes it, and what it counts is data.
KNOWN = "dangerous import 'collections Counter' FOUND"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of each of torch's optimizers, after some steps."""
    root = tmp_path_factory.mktemp("zoo")
    for name in TABLE:
        training = zoo.stepped(name)
        scheduler = zoo.scheduler("MultiStepLR", training.optimizer)
        save_checkpoint(root / name, training.model, training.optimizer, scheduler)
    return root


def _run(tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name(tool)), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


# Not as it is written here: files that are not listed, and JSON with escapes.
_FOREIGN = ("beside-it", "other-spelling")


def _sources(saved: Path) -> list[Path]:
    valid = [path for path in (EXAMPLES / "valid").iterdir() if path.name not in _FOREIGN]
    return [saved, GOLDEN, *valid]


def test_hayward_reads_all_of_it_and_finds_nothing(saved: Path) -> None:
    places = map(str, _sources(saved))
    done = _run("hayward", "scan", "--fail-on", "low", "--fail-on-coverage", *places)
    assert done.returncode == 0, done.stdout
    evil = EXAMPLES / "invalid" / "pickle-global--os-system"
    assert _run("hayward", "scan", str(evil)).returncode != 0


def test_picklescan_finds_nothing_but_a_counter(saved: Path) -> None:
    scanned = 0
    for place in _sources(saved):
        done = _run("picklescan", "--strict", "-p", str(place))
        found = [line for line in done.stdout.splitlines() if "FOUND" in line]
        assert all(KNOWN in line for line in found), found
        scanned += sum("data.pkl" in line for line in found)
        assert "Suspicious globals: 0" in done.stdout
    assert scanned
    evil = EXAMPLES / "invalid" / "pickle-global--os-system"
    assert _run("picklescan", "--strict", "-p", str(evil)).returncode != 0


def test_modelvet_takes_every_weights_file(saved: Path) -> None:
    modelvet = pytest.importorskip("modelvet")
    files = [path for place in _sources(saved) for path in place.rglob("*.safetensors")]
    assert len(files) > len(TABLE)
    for path in files:
        report = modelvet.verify_path(path)
        assert report.verdict is modelvet.Verdict.ACCEPT, (path, report)
