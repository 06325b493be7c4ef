"""The history of a root: appended to by one write, torn lines skipped, made anew when missing."""

from __future__ import annotations

import json
import math
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from smartcash_format.disk.notes import comment_out
from smartcash_format.spec import layout, limits
from smartcash_format.spec.digest import seal
from smartcash_format.spec.history import HistoryLine, encode_line
from smartcash_format.store import history as history_module
from smartcash_format.store.catalog import scan
from smartcash_format.store.checkpoint_store import CheckpointStore
from smartcash_format.store.history import (
    History,
    append,
    describe_best,
    export_history,
    mend_history,
    read_history,
    torn_lines,
)
from smartcash_format.store.retention import DropResumeState, KeepLast
from smartcash_format.testing.sample import write_sample
from tests.costs import SOON, measured
from tests.store.checkpoints import (
    OTHER_RUN,
    RUN,
    START,
    build_meta,
    identifier,
    write_checkpoint,
)


def line(number: int, run_id: str = RUN, *, is_best: bool = False) -> HistoryLine:
    return HistoryLine(
        event="save", at=START + timedelta(minutes=number), run_id=run_id, epoch=number,
        checkpoint=f"epoch-{number:04d}", checkpoint_id=identifier(number), is_best=is_best,
        metrics={"val_loss": 1 / number},
    )  # fmt: skip


def text(root: Path) -> str:
    return (root / layout.HISTORY).read_text("utf-8")


def test_events_come_back_in_the_order_they_were_appended(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        assert append(tmp_path, [line(number)], ()) == ()
    history = read_history(tmp_path, ())
    assert history.lines == (line(1), line(2), line(3))
    assert len(yaml.safe_load(text(tmp_path))) == 3


def test_a_line_after_a_torn_one_is_whole_and_the_torn_one_is_counted(tmp_path: Path) -> None:
    append(tmp_path, [line(1), line(2)], ())
    whole = text(tmp_path)
    (tmp_path / layout.HISTORY).write_text(whole[:-30], "utf-8")
    append(tmp_path, [line(3)], ())
    history = read_history(tmp_path, ())
    assert history.lines == (line(1), line(3))
    assert history.skipped == 1


def test_a_history_that_is_not_ours_is_moved_aside_and_said_so(tmp_path: Path) -> None:
    (tmp_path / layout.HISTORY).write_text("total_runs: 3\nruns: []\n")
    assert read_history(tmp_path, ()) == History(lines=(), rebuilt=True)
    notes = append(tmp_path, [line(1)], ())
    assert layout.OLD_HISTORY in notes[0]
    assert (tmp_path / layout.OLD_HISTORY).read_text() == "total_runs: 3\nruns: []\n"
    assert read_history(tmp_path, ()).lines == (line(1),)
    (tmp_path / layout.HISTORY).write_text("again: 1\n")
    append(tmp_path, [line(2)], ())
    assert (tmp_path / layout.OLD_HISTORY).read_text() == "total_runs: 3\nruns: []\n"
    assert (tmp_path / "training_history.old.2.yaml").read_text() == "again: 1\n"


def test_a_missing_history_is_made_from_the_checkpoints_and_the_next_append_writes_it(
    tmp_path: Path,
) -> None:
    write_checkpoint(tmp_path, 1)
    write_checkpoint(tmp_path, 2, is_best=True)
    write_checkpoint(tmp_path, 3, run_id=OTHER_RUN, parent_id=identifier(2))
    history = read_history(tmp_path, scan(tmp_path))
    assert history.rebuilt
    assert [each.event for each in history.lines] == ["save", "save", "resume", "save"]
    assert not (tmp_path / layout.HISTORY).exists()
    append(tmp_path, [line(4)], scan(tmp_path))
    written = read_history(tmp_path, ())
    assert written.lines == (*history.lines, line(4))


def test_a_missing_history_is_made_before_a_cleanup_takes_what_it_tells_of(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        write_sample(tmp_path, epoch=number, saved_at=START + timedelta(minutes=number))
    store = CheckpointStore(tmp_path)
    before = store.events().lines
    store.apply(store.plan(KeepLast(2) | DropResumeState(older_than=1)))
    assert len(list(tmp_path.glob("epoch-*"))) == 2
    *saves, cleanup = store.events().lines
    assert tuple(saves) == before
    assert cleanup.checkpoints == [each.checkpoint for each in before[:2]]


def test_a_missing_history_tells_of_the_save_that_is_resumed(tmp_path: Path) -> None:
    _, path = (write_checkpoint(tmp_path, number) for number in (1, 2))
    store = CheckpointStore(tmp_path)
    store.record_resume(path, build_meta(2), run_id=OTHER_RUN)
    told = [(found.event, found.epoch) for found in store.events().lines]
    assert told == [("save", 1), ("save", 2), ("resume", 2)]


def test_a_missing_history_tells_of_one_that_is_removed_by_its_name(tmp_path: Path) -> None:
    for number in (1, 2):
        write_checkpoint(tmp_path, number)
    store = CheckpointStore(tmp_path)
    before = store.events().lines
    store.remove(scan(tmp_path)[1].name)
    assert store.events().lines[:-1] == before


def test_a_failed_append_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / layout.HISTORY).mkdir()
    notes = append(tmp_path, [line(1)], ())
    assert len(notes) == 1
    assert layout.HISTORY in notes[0]


def test_a_summary_counts_runs_and_names_the_best_and_the_last_resume(tmp_path: Path) -> None:
    resume = HistoryLine(
        event="resume", at=START + timedelta(hours=1), run_id=OTHER_RUN, checkpoint="epoch-0002"
    )
    looked = resume.model_copy(update={"run_id": identifier(99), "checkpoint": "epoch-0001"})
    events = [line(1), line(2, is_best=True), resume, line(90, OTHER_RUN), looked]
    append(tmp_path, events, ())
    summary = read_history(tmp_path, ()).summary()
    assert summary["total_runs"] == 2
    assert summary["best"]["checkpoint"] == "epoch-0002"
    assert summary["last_resume"]["checkpoint"] == "epoch-0001"
    first, second = summary["runs"]
    assert (first["first_epoch"], first["last_epoch"], first["saves"]) == (1, 2, 2)
    assert (first["resumed_from"], second["resumed_from"]) == (None, "epoch-0002")
    assert second["started_at"] < second["ended_at"]
    assert second["best"] is None


def test_a_run_resumed_from_what_its_first_save_goes_on_from(tmp_path: Path) -> None:
    """Neither what was loaded before that, nor what it went back to later."""
    resumes = [
        line(number).model_copy(update={"event": "resume", "run_id": OTHER_RUN})
        for number in (3, 1, 90)
    ]
    first, second, later = resumes
    append(tmp_path, [*map(line, (1, 2, 3)), first, second, line(90, OTHER_RUN), later], ())
    one, other = read_history(tmp_path, ()).summary()["runs"]
    assert (one["resumed_from"], other["resumed_from"]) == (None, "epoch-0001")


def test_many_runs_are_summed_up_in_one_pass() -> None:
    saves = [line(number, identifier(number)) for number in range(1, 10_001)]
    with measured() as cost:
        assert History(lines=tuple(saves)).summary()["total_runs"] == len(saves)
    assert cost.readings < SOON


def test_rows_are_flat_and_name_their_parent(tmp_path: Path) -> None:
    child = line(2).model_copy(update={"parent_id": identifier(1)})
    append(tmp_path, [line(1), child], ())
    rows = read_history(tmp_path, ()).rows()
    assert [row["parent"] for row in rows] == [None, "epoch-0001"]
    assert rows[1]["metrics.val_loss"] == 0.5


def test_every_row_has_the_same_keys_and_plain_values(tmp_path: Path) -> None:
    """What pandas.DataFrame needs for one column a key, none of them of objects."""
    measured: list[dict[str, int | float]] = [{"a": 0.5}, {}, {"b": 1, "a": math.nan}]
    lines = [
        line(number).model_copy(update={"metrics": metrics, "parent_id": identifier(number - 1)})
        for number, metrics in enumerate(measured, start=1)
    ]
    append(tmp_path, lines, ())
    rows = read_history(tmp_path, ()).rows()
    assert [list(row) for row in rows] == [list(rows[0])] * 3
    assert [row["metrics.b"] for row in rows] == [None, None, 1]
    kinds = {key: {type(row[key]) for row in rows} - {type(None)} for key in rows[0]}
    assert kinds == {
        "checkpoint": {str}, "run_id": {str}, "parent": {str}, "saved_at": {str}, "epoch": {int},
        "step": set(), "is_best": {bool}, "metrics.a": {float}, "metrics.b": {int},
    }  # fmt: skip


@pytest.mark.attack(
    "large", "a metric of its own in each of a history's lines", "each row has its own alone"
)
def test_metrics_beyond_counting_are_not_multiplied_by_the_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [
        line(number).model_copy(update={"metrics": {f"m{number}": 0.5}}) for number in (1, 2, 3)
    ]
    append(tmp_path, lines, ())
    history = read_history(tmp_path, ())
    monkeypatch.setattr(history_module, "_CELLS", 9)
    assert [sum(key.startswith("metrics.") for key in row) for row in history.rows()] == [3] * 3
    monkeypatch.setattr(history_module, "_CELLS", 8)
    assert [sum(key.startswith("metrics.") for key in row) for row in history.rows()] == [1] * 3


def test_a_metric_takes_no_column_of_a_row(tmp_path: Path) -> None:
    taken = line(3).model_copy(update={"metrics": {"epoch": 0.5, "checkpoint": 1.0}})
    append(tmp_path, [taken], ())
    (row,) = read_history(tmp_path, ()).rows()
    assert (row["epoch"], row["checkpoint"]) == (3, "epoch-0003")
    assert (row["metrics.epoch"], row["metrics.checkpoint"]) == (0.5, 1.0)


def test_a_resume_is_told_after_its_parent_was_stripped(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 9, epoch=1, derived_from=identifier(1))
    write_checkpoint(tmp_path, 10, epoch=2, run_id=OTHER_RUN, parent_id=identifier(1))
    events = read_history(tmp_path, scan(tmp_path)).lines
    assert [(each.event, each.epoch) for each in events] == [
        ("save", 1),
        ("resume", 1),
        ("save", 2),
    ]


NEWER = '- {"event": "merge", "at": "2026-01-31T12:00:00.000000Z", "run_id": 7}\n'


def test_torn_lines_become_comments_and_no_other_byte_changes(tmp_path: Path) -> None:
    path = tmp_path / layout.HISTORY
    kept = f"# mine\n{encode_line(line(1))}\n{NEWER}"
    noise = "x" * (limits.HISTORY_LINE_BYTES * 3)
    path.write_bytes(f"{kept}- {{torn\n{noise}\n- {{".encode() + b"\xff\n\0\0\0")
    assert len(torn_lines(tmp_path)) == 4
    size = path.stat().st_size
    assert mend_history(tmp_path) == 4
    assert path.stat().st_size == size
    text = path.read_text("utf-8")
    assert text.startswith(kept)
    assert [each.strip() for each in text[len(kept) :].split("\n")] == ["#"] * 4
    assert mend_history(tmp_path) == 0
    assert [each["event"] for each in yaml.safe_load(text)] == ["save", "merge"]
    append(tmp_path, [line(2)], ())
    assert [each.epoch for each in read_history(tmp_path, ()).lines] == [1, 2]


def test_a_line_that_is_appended_while_a_history_is_mended_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / layout.HISTORY
    path.write_text(f"{encode_line(line(1))}- {{torn\n")

    def append_first(*args: Any) -> int:
        append(tmp_path, [line(2)], ())
        return comment_out(*args)

    monkeypatch.setattr(history_module, "comment_out", append_first)
    assert mend_history(tmp_path) == 1
    found = read_history(tmp_path, ())
    assert ([each.epoch for each in found.lines], found.skipped) == ([1, 2], 0)


def test_a_line_that_was_written_to_its_end_meanwhile_stays(tmp_path: Path) -> None:
    path = tmp_path / layout.HISTORY
    whole = encode_line(line(1))
    path.write_text(whole[:30])
    torn = torn_lines(tmp_path)
    path.write_text(whole)
    assert len(torn) == 1
    assert comment_out(path, torn) == 0
    assert path.read_text() == whole


def test_a_history_of_another_origin_is_not_mended(tmp_path: Path) -> None:
    (tmp_path / layout.HISTORY).write_text("epochs: 3\n- {torn\n")
    assert mend_history(tmp_path) == 0
    assert (tmp_path / layout.HISTORY).read_text() == "epochs: 3\n- {torn\n"
    assert mend_history(tmp_path / "nowhere") == 0


def test_a_name_that_cannot_be_decoded_is_told_escaped(tmp_path: Path) -> None:
    name = os.fsdecode(b"epoch-\xff")
    entry = write_checkpoint(tmp_path, 1, name=name)
    store = CheckpointStore(tmp_path)
    assert store.record_save(entry, build_meta(1)) == ()
    assert store.record_resume(entry, build_meta(1), run_id=OTHER_RUN) == ()
    assert store.record_copy([entry], tmp_path / "elsewhere") == ()
    write_checkpoint(tmp_path, 2, name=os.fsdecode(b"epoch-\xfe"))
    assert store.apply(store.plan(KeepLast(1))).warnings == ()
    told = [each.checkpoint or each.checkpoints[0] for each in store.events().lines]
    assert told == ["epoch-\\udcff"] * 4
    best = describe_best(next(iter(store.list())))
    assert export_history(tmp_path / "out.json", {"best": best}).exists()


def test_an_export_is_strict_json_and_replaces_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    path.write_text("old")
    append(tmp_path, [line(1)], ())
    summary = read_history(tmp_path, ()).summary()
    assert export_history(path, summary) == path
    assert json.loads(path.read_bytes()) == summary
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".tmp")]


def test_a_history_that_cannot_be_read_is_the_systems_error(tmp_path: Path) -> None:
    (tmp_path / layout.HISTORY).mkdir()
    with pytest.raises(OSError, match="directory"):
        read_history(tmp_path, ())


def test_a_save_told_twice_counts_once(tmp_path: Path) -> None:
    append(tmp_path, [line(1)], ())
    append(tmp_path, [line(2)], ())
    append(tmp_path, [line(1)], ())
    assert [found.epoch for found in read_history(tmp_path, ()).lines] == [1, 2]


def test_a_history_over_its_bound_is_read_from_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 30):
        append(tmp_path, [line(number)], ())
    monkeypatch.setattr("smartcash_format.spec.limits.HISTORY_BYTES", 1_000)
    history = read_history(tmp_path, ())
    assert 0 < len(history.lines) < 5
    assert history.lines[-1] == line(29)
    # What was cut by reading from the end is neither torn nor new.
    assert history.skipped == 0


def test_of_a_history_of_too_many_lines_the_last_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(tmp_path, [line(number) for number in range(1, 11)], ())
    whole = read_history(tmp_path, ())
    for count in (1, 3, 10, 11):
        monkeypatch.setattr(limits, "HISTORY_LINES", count)
        assert read_history(tmp_path, ()).lines == whole.lines[-count:]


def test_a_line_that_is_torn_and_one_of_a_newer_version_are_told_apart(tmp_path: Path) -> None:
    append(tmp_path, [line(1)], ())
    newer = '- {"event": "merge", "at": "2026-01-31T12:00:00.000000Z", "of": [1, 2]}\n'
    with (tmp_path / layout.HISTORY).open("a") as file:
        file.write(newer * 2 + '- {"event": "sa\n')
    history = read_history(tmp_path, ())
    assert (history.skipped, history.torn) == (3, 1)
    torn, unknown = history.unread()
    assert torn.startswith("1 line of the history is torn: smartcash-format doctor ROOT --fix")
    assert unknown.startswith("2 lines of the history are unknown to this version: a newer")
    # What is said of the torn one is true, and the others are left to who knows them.
    assert mend_history(tmp_path) == 1
    history = read_history(tmp_path, ())
    assert (history.skipped, history.torn) == (2, 0)
    assert [*history.unread()] == [unknown]


@pytest.mark.no_cover
@pytest.mark.attack(
    "large", "a history of millions of torn lines", "counted up to HISTORY_LINES, the last ones"
)
def test_millions_of_torn_lines_are_not_all_looked_at(tmp_path: Path) -> None:
    append(tmp_path, [line(1)], ())
    with (tmp_path / layout.HISTORY).open("a") as file:
        file.write("- {\n" * 2_000_000)
    with measured() as cost:
        history = read_history(tmp_path, ())
    assert cost.readings < SOON
    assert (history.lines, history.skipped) == ((), limits.HISTORY_LINES)


def test_a_history_made_anew_needs_of_a_checkpoint_only_what_a_listing_has(
    tmp_path: Path,
) -> None:
    path = write_checkpoint(tmp_path, 1)
    document = json.loads((path / layout.META).read_bytes())
    (path / layout.META).write_bytes(seal({**document, "rng": "odd"}))
    listing = scan(tmp_path)
    assert len(listing) == 1
    assert append(tmp_path, [line(2)], listing) == ()
    assert [found.epoch for found in read_history(tmp_path, ()).lines] == [1, 2]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_history_that_is_a_pipe_is_neither_waited_for_nor_written_to(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / layout.HISTORY)
    (note,) = append(tmp_path, [line(1)], ())
    assert "was not written" in note
