from __future__ import annotations

from pathlib import Path

from smartcash_format.spec.problems import Depth, Problem, Report

HERE = Path("epoch-0001-3f9a2c1b")
FIRST = Problem(code="file-size", where="model.safetensors", message="has 3 bytes instead of 4")
SECOND = Problem(code="file-missing", where="extra.pt", message="is not there")


def test_a_report_without_problems_says_how_deep_it_looked() -> None:
    report = Report(path=HERE, depth=Depth.STRUCTURE, problems=())
    assert report.valid
    assert report.message == ("valid and complete (structure; contents not hashed: depth=CONTENT)")
    assert report.sentence("--depth content") == (
        "valid and complete (structure; contents not hashed: --depth content)"
    )


def test_only_a_report_at_content_calls_a_checkpoint_intact() -> None:
    messages = {depth: Report(path=HERE, depth=depth, problems=()).message for depth in Depth}
    assert [depth for depth in Depth if "intact" in messages[depth]] == [Depth.CONTENT]


def test_a_report_with_problems_names_the_first_and_counts_the_others() -> None:
    report = Report(path=HERE, depth=Depth.META, problems=(FIRST,))
    assert not report.valid
    assert report.message == "model.safetensors: has 3 bytes instead of 4"
    report = Report(path=HERE, depth=Depth.META, problems=(FIRST, SECOND))
    assert report.message == "model.safetensors: has 3 bytes instead of 4 (and 1 more)"


def test_each_depth_includes_the_ones_before_it() -> None:
    assert Depth.META < Depth.STRUCTURE < Depth.CONTENT
