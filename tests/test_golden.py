"""What released versions wrote is read for ever, and to the same values."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from smartcash_format.disk.observe import validate
from smartcash_format.spec.problems import Depth
from smartcash_format.store.checkpoint_store import CheckpointStore

GOLDEN = Path(__file__).parent / "golden"
ROOT = GOLDEN / "v1.0" / "root"
EXPECTED: Mapping[str, Any] = json.loads((GOLDEN / "v1.0" / "expected.json").read_text())
RUNS = [name for name in EXPECTED if "state" in EXPECTED[name]]
# Of every file and its bytes, when the version was released: nobody edits a golden checkpoint.
FINGERPRINT = "9cbfe36ec86ebc708b0a5539b2ac1d57bc672a118c382e53719ea5ed52410886"


def fingerprint(directory: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        digest.update(path.relative_to(directory).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def test_the_golden_files_are_those_of_the_release() -> None:
    assert fingerprint(GOLDEN / "v1.0") == FINGERPRINT


@pytest.mark.parametrize("name", EXPECTED)
def test_a_golden_checkpoint_is_intact(name: str) -> None:
    report = validate(ROOT / name, Depth.CONTENT)
    assert report.problems == ()
    assert report.notices == ()


def test_golden_checkpoints_are_listed_in_their_order_with_their_facts() -> None:
    listing = CheckpointStore(ROOT).list()
    assert listing.broken == ()
    assert [entry.path.name for entry in listing] == list(EXPECTED)[::-1]
    for entry in listing:
        facts = EXPECTED[entry.path.name]
        assert (entry.epoch, entry.is_best) == (facts["epoch"], facts["is_best"])
    newest = listing[0]
    assert repr(dict(newest.metrics)) == "{'loss': nan}"
    assert newest.tags == ()
    assert [entry.backbone for entry in listing] == [None, *["efficientnet_b4"] * 3]
    assert [entry.dataset for entry in listing] == [None, *["rupiah"] * 3]


def test_a_golden_history_tells_of_two_runs_and_a_resume() -> None:
    history = CheckpointStore(ROOT).events()
    assert history.skipped == 0
    assert [line.event for line in history.lines] == ["save", "save", "resume", "save", "save"]
    assert history.lines[2].checkpoint == list(EXPECTED)[1]
    assert CheckpointStore(ROOT).history()["total_runs"] == 2


def test_a_golden_pin_protects() -> None:
    store = CheckpointStore(ROOT)
    first = store.by_epoch(1)
    assert first is not None
    assert store.protected() == {first.checkpoint_id: "protected: the first golden one"}
    plan = store.plan_cleanup(max_checkpoints=1, keep_best=False)
    assert first not in plan.doomed
    assert plan.doomed != ()


@pytest.mark.torch
@pytest.mark.parametrize("name", RUNS)
def test_a_golden_checkpoint_gives_every_object_the_state_that_was_saved(
    name: str, tmp_path: Path
) -> None:
    from smartcash_format.manager.checkpoint_manager import CheckpointManager
    from tests.golden.make_v1_0 import Training, draws, plain, state_of

    np = pytest.importorskip("numpy")
    live = Training(seed=7)
    random.seed(8)
    np.random.seed(9)
    manager = CheckpointManager(tmp_path / "elsewhere")
    manager.load_checkpoint(
        ROOT / name, None, live.model, live.optimizer, live.scheduler, extra=live.extra
    )
    found = json.loads(json.dumps({"state": state_of(live), "draws": draws(live)}))
    assert found["state"].keys() == EXPECTED[name]["state"].keys()
    for part, state in EXPECTED[name]["state"].items():
        assert found["state"][part] == state, part
    assert found["draws"] == EXPECTED[name]["draws"]
    assert live.model.decode.weight is live.model.embed.weight
    assert plain(live.model.seen) == 4 * EXPECTED[name]["epoch"]


@pytest.mark.torch
def test_golden_weights_of_a_plain_dict_come_back_as_one() -> None:
    import torch

    from smartcash_format.manager.checkpoint_manager import CheckpointManager

    result = CheckpointManager(ROOT).load_checkpoint(4)
    (tensor,) = result["model_state_dict"].values()
    assert tensor.dtype == torch.uint16
    assert tensor.tolist() == [0, 1, 65535]
