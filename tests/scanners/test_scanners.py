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


# Not as it is written here: files that are not listed, JSON with escapes, a Counter by its name.
_FOREIGN = ("beside-it", "other-spelling")
_OLDER = "tagged-forms"


def _sources(saved: Path, *but: str) -> list[Path]:
    left_out = (*_FOREIGN, *but)
    valid = [path for path in (EXAMPLES / "valid").iterdir() if path.name not in left_out]
    return [saved, GOLDEN, *valid]


def test_hayward_reads_all_of_it_and_finds_nothing(saved: Path) -> None:
    places = map(str, _sources(saved))
    done = _run("hayward", "scan", "--fail-on", "low", "--fail-on-coverage", *places)
    assert done.returncode == 0, done.stdout
    evil = EXAMPLES / "invalid" / "pickle-global--os-system"
    assert _run("hayward", "scan", str(evil)).returncode != 0


def test_picklescan_finds_nothing(saved: Path) -> None:
    scanned = 0
    for place in _sources(saved, _OLDER):
        done = _run("picklescan", "--strict", "-p", str(place))
        assert done.returncode == 0, (place, done.stdout)
        assert "Infected files: 0" in done.stdout
        scanned += sum(path.suffix == ".pt" for path in place.rglob("*"))
    assert scanned > len(TABLE)
    evil = EXAMPLES / "invalid" / "pickle-global--os-system"
    assert _run("picklescan", "--strict", "-p", str(evil)).returncode != 0


def test_modelvet_takes_every_weights_file(saved: Path) -> None:
    modelvet = pytest.importorskip("modelvet")
    files = [path for place in _sources(saved) for path in place.rglob("*.safetensors")]
    assert len(files) > len(TABLE)
    for path in files:
        report = modelvet.verify_path(path)
        assert report.verdict is modelvet.Verdict.ACCEPT, (path, report)
