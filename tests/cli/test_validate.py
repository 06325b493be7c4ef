"""What `validate` says of requirements."""

from __future__ import annotations

import json
from pathlib import Path

from smartcash_format.testing.sample import write_sample
from tests.cli.conftest import Run


def test_what_is_not_whole_is_not_said_to_have_changed_meanwhile(run: Run, tmp_path: Path) -> None:
    bad = write_sample(tmp_path, epoch=1)
    (bad / "optimizer.pt").unlink()
    for gate in (("--require", "epoch>=1"), ("--max-size", "1GB")):
        ran = run("validate", bad, *gate, "--format", "json")
        assert ran.code == 1
        (report,) = json.loads(ran.out)["reports"]
        assert [problem["code"] for problem in report["problems"]] == ["file-missing"]
        assert report["unmet"] == []
