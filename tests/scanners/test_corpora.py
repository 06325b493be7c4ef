"""Whatever a public scanner says of a hostile file, the file is refused here (`make scanners`)."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import pytest

from smartcash_format.disk.observe import validate
from smartcash_format.errors import CheckpointError
from smartcash_format.integrations.convert import convert
from smartcash_format.integrations.inert_pickle import PATTERNS
from smartcash_format.integrations.inert_reader import read
from smartcash_format.spec.problems import CODES, Depth
from tests.contract.build import draft, with_optimizer
from tests.contract.make import EXAMPLES
from tests.scanners import corpora, hostile

pytestmark = [pytest.mark.scanners, pytest.mark.torch]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of files, in one of a source each."""
    root = tmp_path_factory.mktemp("corpus")
    fetched = tmp_path_factory.mktemp("fetched")
    for name in ("hostile", "picklescan", "hayward", "examples"):
        (root / name).mkdir()
    for name, data in hostile.files():
        (root / "hostile" / name).write_bytes(data)
    named = corpora.named_by_picklescan(corpora.source_of("picklescan", fetched))
    for name, data in named:
        (root / "picklescan" / name).write_bytes(data)
    corpora.recorded(corpora.source_of("hayward", fetched), root / "hayward")
    for path in (EXAMPLES / "invalid").glob("*/*"):
        if path.suffix in (".pt", ".safetensors") and path.is_file():
            (root / "examples" / f"{path.parent.name}-{path.name}").write_bytes(path.read_bytes())
    return root


def _by_hayward(root: Path) -> Mapping[Path, list[str]]:
    """The rules that each file breaks; what could not be read counts as one."""
    program = str(Path(sys.executable).with_name("hayward"))
    command = [program, "scan", "-f", "json", "--quiet", "--fail-on", "never", str(root)]
    said = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    found: dict[Path, list[str]] = defaultdict(list)
    for finding in said["findings"]:
        found[Path(finding["file"])].append(finding["rule_id"])
    for gap in said["coverage_gaps"]:
        found[Path(gap)].append("coverage")
    return found


def _by_picklescan(path: Path, *, strict: bool = True) -> bool:
    from picklescan.scanner import scan_file_path

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return bool(scan_file_path(str(path), strict=strict).issues_count)
        # It has no other way to say that it cannot read a file; then it says nothing.
        except Exception:  # noqa: BLE001
            return False


def _by_modelvet(path: Path) -> bool:
    import modelvet

    if path.suffix != ".safetensors":
        return False
    return bool(modelvet.verify_path(path).verdict is not modelvet.Verdict.ACCEPT)


def _refused_in_a_checkpoint(path: Path, place: Path) -> bool:
    """Whether a checkpoint that has the file, with sound sizes and digests, has a problem in it."""
    made = draft()
    name = "model.safetensors" if path.suffix == ".safetensors" else "optimizer.pt"
    if name == "optimizer.pt":
        with_optimizer(made, path.read_bytes())
    made.parts[name] = path.read_bytes()
    checkpoint = place / "epoch-0010-6f1b9a52"
    shutil.rmtree(checkpoint, ignore_errors=True)
    checkpoint.mkdir()
    for file, data in made.files().items():
        (checkpoint / file).write_bytes(data)
    problems = validate(checkpoint, Depth.STRUCTURE).problems
    assert all(problem.code in CODES for problem in problems)
    return any(problem.where.startswith(name) for problem in problems)


def _refused_by_convert(path: Path, place: Path) -> bool:
    if path.suffix != ".safetensors":
        try:
            read(str(path), PATTERNS)
        # As the process apart answers, whatever Python raises.
        except Exception:  # noqa: BLE001
            return True
    try:
        convert(path, place / "root")
    except CheckpointError:
        return True
    return False


# hayward's rule, of no severity, for a name on neither of its lists.
UNKNOWN = "MFV-PICKLE-004"
# Of each source at least so many are flagged: else it was not there, or not looked at.
FLAGGED = {"hostile": 500, "picklescan": 300, "hayward": 400, "examples": 30}


@pytest.mark.parametrize("source", FLAGGED)
def test_what_a_scanner_flags_is_refused_in_a_checkpoint_and_by_convert(
    corpus: Path, source: str, tmp_path: Path
) -> None:
    rules = _by_hayward(corpus / source)
    flagged = [
        path
        for path in sorted((corpus / source).iterdir())
        if path in rules or _by_picklescan(path) or _by_modelvet(path)
    ]
    assert len(flagged) >= FLAGGED[source]
    taken = [path.name for path in flagged if not _refused_in_a_checkpoint(path, tmp_path)]
    assert taken == []
    # A whole module comes in without its code: its class is a name that no scanner's list has.
    unknown = {p for p in flagged if rules[p] == [UNKNOWN] and not _by_picklescan(p, strict=False)}
    converted = [path.name for path in flagged if not _refused_by_convert(path, tmp_path)]
    assert set(converted) <= {path.name for path in unknown if b"torch.nn" in path.read_bytes()}
