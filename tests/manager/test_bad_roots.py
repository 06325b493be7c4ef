"""Every operation of a manager against roots as they should not be."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from smartcash_format.disk import sweeping
from smartcash_format.disk.read import read_meta
from smartcash_format.errors import CheckpointError, CheckpointNotFoundError, CheckpointWriteError
from smartcash_format.manager import holding, reader, saver
from smartcash_format.manager.checkpoint_manager import CheckpointManager
from smartcash_format.spec import layout
from smartcash_format.spec.meta import encode_meta
from smartcash_format.store import checkpoint_store
from smartcash_format.testing.faults import Layer
from smartcash_format.testing.points import Fault, Point
from smartcash_format.testing.sample import write_sample
from tests.manager.training import manager, said, training
from tests.processes import CHECKOUT
from tests.smartcash_logger import SmartCashLogger


def in_the_background(keeper: CheckpointManager) -> None:
    keeper.save_checkpoint(**training().live(), epoch=9, blocking=False)
    keeper.wait()


def guarded(keeper: CheckpointManager) -> None:
    """A save that a signal led to; raises what it raised."""
    state = lambda: {**training().live(), "epoch": 9}  # noqa: E731
    try:
        with keeper.guard(state) as guard:
            os.kill(os.getpid(), signal.SIGINT)
            guard.step()
    except KeyboardInterrupt as interrupt:
        if interrupt.__context__ is not None:
            raise interrupt.__context__ from None


def read(keeper: CheckpointManager) -> list[str]:
    """The files of the newest checkpoint, looked at while it is held."""
    with keeper.reading(keeper.list_checkpoints()[0]) as path:
        return sorted(os.listdir(path))


WRITES: dict[str, Callable[[CheckpointManager, Path], object]] = {
    "save": lambda keeper, aside: keeper.save_checkpoint(**training().live(), epoch=9),
    "background": lambda keeper, aside: in_the_background(keeper),
    "guard": lambda keeper, aside: guarded(keeper),
    "cleanup": lambda keeper, aside: keeper.cleanup_checkpoints(keep_best=False, max_epochs=1),
    "copy": lambda keeper, aside: keeper.copy_to_drive(aside),
    "protect": lambda keeper, aside: keeper.protect(keeper.list_checkpoints()[0], "why"),
    "export": lambda keeper, aside: keeper.export_history_to_json(),
}
LOOKS: dict[str, Callable[[CheckpointManager], object]] = {
    "list": lambda keeper: [entry.epoch for entry in keeper.list_checkpoints()],
    "best": lambda keeper: keeper.find_best_checkpoint(),
    "latest": lambda keeper: getattr(keeper.find_latest_checkpoint(), "epoch", None),
    "history": lambda keeper: keeper.get_training_history()["total_runs"],
    "load": lambda keeper: keeper.load_checkpoint("latest", **training().live())["epoch"],
    "fallback": lambda keeper: keeper.load_checkpoint("latest", **training().live(), fallback=True)[
        "epoch"
    ],
    "reading": read,
    "validate": lambda keeper: keeper.validate_checkpoint(keeper.list_checkpoints()[0])[0],
}


def filled(root: Path) -> tuple[CheckpointManager, SmartCashLogger]:
    keeper, log = manager(root)
    for epoch in (1, 2):
        keeper.save_checkpoint(**training().live(), epoch=epoch)
    return keeper, log


def contents(root: Path) -> dict[str, bytes]:
    files = [path for path in root.rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def refusal(act: Callable[[], object]) -> Exception | None:
    """What an act raises of what it may raise; there is no first checkpoint in an empty root."""
    try:
        act()
    except (CheckpointError, OSError, IndexError) as error:
        return error
    return None


def read_only(root: Path) -> Layer:
    """Every call that would change the root fails, as on a mount that is read-only."""
    fault = Fault(effect="fail", errno=errno.EROFS, lasting=True)
    layer = Layer(root, fault=fault, at=Point("", ""))
    layer._struck = True
    return layer


@pytest.mark.parametrize("look", LOOKS)
def test_a_read_only_root_is_listed_and_loaded(tmp_path: Path, look: str) -> None:
    filled(tmp_path)
    before = contents(tmp_path)
    reader, _ = manager(tmp_path)
    expected = LOOKS[look](manager(tmp_path)[0])
    for path, data in before.items():
        (tmp_path / path).write_bytes(data)
    with read_only(tmp_path) as layer:
        assert LOOKS[look](reader) == expected
    assert layer.unseen == []
    assert contents(tmp_path) == before


def test_a_resume_from_a_read_only_root_says_what_was_not_noted(tmp_path: Path) -> None:
    filled(tmp_path)
    reader, log = manager(tmp_path)
    with read_only(tmp_path):
        reader.load_checkpoint("latest", **training().live())
    assert "was not written: Read-only file system" in said(log, "warning")


@pytest.mark.parametrize("write", WRITES)
def test_a_read_only_root_refuses_what_would_change_it_and_stays(
    tmp_path: Path, write: str
) -> None:
    root = tmp_path / "root"
    keeper, log = filled(root)
    before = contents(root)
    with read_only(root):
        refused = refusal(lambda: WRITES[write](keeper, tmp_path / "aside"))
    if write in ("cleanup", "copy"):  # what stays, and what is not noted, is a sentence
        assert refused is None
        assert "Read-only file system" in said(log, "warning")
    else:
        assert "Read-only file system" in str(refused)
    assert contents(root) == before


def test_a_copy_to_a_read_only_target_is_a_failed_write(tmp_path: Path) -> None:
    keeper, _ = filled(tmp_path / "root")
    (tmp_path / "target").mkdir()
    with (
        read_only(tmp_path / "target"),
        pytest.raises(CheckpointWriteError, match="Read-only file system"),
    ):
        keeper.copy_to_drive(tmp_path / "target")
    assert os.listdir(tmp_path / "target") == []


@pytest.mark.parametrize("write", WRITES)
def test_a_root_that_is_gone_is_an_error_of_ours_or_a_new_root(tmp_path: Path, write: str) -> None:
    root = tmp_path / "root"
    keeper, _ = filled(root)
    shutil.rmtree(root)
    refused = refusal(lambda: WRITES[write](keeper, tmp_path / "aside"))
    assert refused is None or write in ("protect", "export")
    assert all(entry.epoch == 9 for entry in keeper.list_checkpoints())


@pytest.mark.parametrize("look", ["list", "best", "latest", "history"])
def test_a_root_that_is_gone_is_empty_to_look_at(tmp_path: Path, look: str) -> None:
    keeper, _ = manager(tmp_path / "gone")
    assert not LOOKS[look](keeper)
    assert not (tmp_path / "gone").exists()


def test_a_root_that_vanishes_in_a_save_is_a_failed_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    keeper, _ = filled(root)
    real = os.pwrite

    def vanish(*args: Any) -> int:
        if root.exists():
            os.rename(root, tmp_path / "unmounted")
        return real(*args)

    monkeypatch.setattr(os, "pwrite", vanish)
    with pytest.raises(CheckpointWriteError):
        keeper.save_checkpoint(**training().live(), epoch=3)
    os.rename(tmp_path / "unmounted", root)
    assert [entry.epoch for entry in keeper.list_checkpoints()] == [2, 1]


def test_a_linked_root_is_the_root_that_it_points_to(tmp_path: Path) -> None:
    filled(tmp_path / "real")
    (tmp_path / "link").symlink_to("real")
    keeper, _ = manager(tmp_path / "link")
    keeper.save_checkpoint(**training().live(), epoch=3)
    keeper.cleanup_checkpoints(keep_best=False, max_epochs=2)
    assert [entry.epoch for entry in manager(tmp_path / "real")[0].list_checkpoints()] == [3, 2]
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("write", WRITES)
def test_what_is_done_through_a_linked_root_is_done_where_it_points_to(
    tmp_path: Path, write: str
) -> None:
    filled(tmp_path / "real")
    for name in ("real", "copies"):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / f"{name}-link").symlink_to(name)
    before = contents(tmp_path / "real")
    WRITES[write](manager(tmp_path / "real-link")[0], tmp_path / "copies-link")
    assert all((tmp_path / f"{name}-link").is_symlink() for name in ("real", "copies"))
    changed = tmp_path / ("copies" if write == "copy" else "real")
    assert contents(changed) != before
    listing = manager(changed)[0].list_checkpoints()
    assert listing.broken == ()
    expected = {"cleanup": [2], "copy": [2, 1], "protect": [2, 1], "export": [2, 1]}
    assert [entry.epoch for entry in listing] == expected.get(write, [9, 2, 1])


def test_a_linked_checkpoint_is_used_by_its_path_and_never_listed_or_pruned(tmp_path: Path) -> None:
    other, _ = filled(tmp_path / "elsewhere")
    elsewhere = other.list_checkpoints()[0].path
    keeper, _ = filled(tmp_path / "root")
    link = tmp_path / "root" / "best"
    link.symlink_to(elsewhere)
    assert [entry.epoch for entry in keeper.list_checkpoints()] == [2, 1]
    keeper.cleanup_checkpoints(keep_best=False, max_checkpoints=0, max_epochs=0)
    assert keeper.validate_checkpoint("best")[0]
    assert keeper.load_checkpoint(link, **training().live())["epoch"] == 2
    assert keeper.copy_to_drive(tmp_path / "copies")[0].name.startswith("epoch-0002-")
    # A pin lies where the pruner of the real root looks for it.
    with keeper.reading(link):
        other.save_checkpoint(**training().live(), epoch=3)
        assert other.cleanup_checkpoints(keep_best=False, max_checkpoints=0, max_epochs=0)
        assert elsewhere.is_dir()
    keeper.protect(link, "published")
    other.cleanup_checkpoints(keep_best=False, max_checkpoints=0, max_epochs=0)
    assert elsewhere.is_dir()
    assert link.is_symlink()


@pytest.mark.parametrize("name", ["new\nline", "tab\t", "größe 🚀", "-rf", "a'b\"c$(x)"])
def test_any_name_of_a_root_will_do(tmp_path: Path, name: str) -> None:
    keeper, _ = filled(tmp_path / name)
    copied = keeper.copy_to_drive(tmp_path / f"{name}-copies")
    assert [path.parent.name for path in copied] == [f"{name}-copies"] * 2
    assert manager(tmp_path / name)[0].load_checkpoint(1, **training().live())["epoch"] == 1
    keeper.display_checkpoints()
    keeper.get_training_history()
    for write in WRITES.values():
        write(keeper, tmp_path / f"{name}-copies")
    assert read(keeper) == sorted(os.listdir(keeper.list_checkpoints()[0]))
    assert [entry.epoch for entry in keeper.list_checkpoints()] == [9]


@pytest.mark.parametrize("name", ["new\nline", "größe 🚀", os.fsdecode(b"epoch-\xff"), "-rf"])
def test_any_name_of_a_checkpoint_will_do(tmp_path: Path, name: str) -> None:
    keeper, log = filled(tmp_path / "root")
    first = keeper.list_checkpoints()[1]
    os.rename(first.path, tmp_path / "root" / name)
    (found,) = (entry for entry in keeper.list_checkpoints() if entry.epoch == 1)
    assert found.path.name == name
    assert keeper.load_checkpoint(found.path, **training().live())["epoch"] == 1
    assert name in {path.name for path in keeper.copy_to_drive(tmp_path / "copies")}
    with keeper.reading(found.path):
        assert keeper.cleanup_checkpoints(keep_best=False, max_epochs=0, max_checkpoints=0) == []
    keeper.protect(found.path, "why")
    keeper.unprotect(found.path)
    keeper.display_checkpoints()
    removed = keeper.cleanup_checkpoints(keep_best=False, max_epochs=0, max_checkpoints=0)
    assert [path.name for path in removed] == [name]
    assert keeper.get_training_history()["total_runs"] == 1
    assert said(log, "warning") == ""


@pytest.fixture
def jump(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Sets the clock of everything that reads one two hours back."""

    class Slow(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) - timedelta(hours=2)

    def back() -> None:
        for module in (saver, reader, holding, checkpoint_store, sweeping):
            monkeypatch.setattr(module, "datetime", Slow)

    return back


@pytest.mark.parametrize("write", WRITES)
def test_a_clock_that_jumps_backwards_costs_nothing_and_reorders_nothing(
    tmp_path: Path, jump: Callable[[], None], write: str
) -> None:
    keeper, _ = filled(tmp_path / "root")
    jump()
    WRITES[write](keeper, tmp_path / "aside")
    found = [entry.epoch for entry in keeper.list_checkpoints()]
    saves = write in ("save", "background", "guard")
    assert found == ([9, 2, 1] if saves else [2] if write == "cleanup" else [2, 1])
    loaded = keeper.load_checkpoint("latest", **training().live(), fallback=True)
    assert loaded["epoch"] == found[0]
    assert keeper.get_training_history()["total_runs"] == 1


def test_what_is_read_stays_while_the_clock_jumps_backwards(
    tmp_path: Path, jump: Callable[[], None]
) -> None:
    keeper, _ = filled(tmp_path)
    oldest = keeper.list_checkpoints()[-1].path
    other, _ = manager(tmp_path)
    with keeper.reading(oldest):
        jump()
        assert other.cleanup_checkpoints(keep_best=False, max_epochs=1) == []
    assert other.cleanup_checkpoints(keep_best=False, max_epochs=1) == [oldest]


def test_a_time_at_the_end_of_all_time_costs_no_save(tmp_path: Path) -> None:
    write_sample(tmp_path, epoch=1, saved_at=datetime.max.replace(tzinfo=UTC))
    keeper, _ = manager(tmp_path)
    saved = keeper.save_checkpoint(**training().live(), epoch=2)
    assert keeper.load_checkpoint(saved["path"], **training().live())["epoch"] == 2


def test_two_writers_of_one_epoch_make_two_checkpoints(tmp_path: Path) -> None:
    ready = threading.Barrier(2)
    results: list[Path] = []

    def write() -> None:
        keeper, _ = manager(tmp_path)
        live = training().live()
        ready.wait()
        results.append(keeper.save_checkpoint(**live, epoch=5)["path"])

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    keeper, _ = manager(tmp_path)
    assert {entry.path for entry in keeper.list_checkpoints()} == set(results)
    assert len(set(results)) == 2
    found = keeper.find_checkpoint_by_epoch(5)
    assert found is not None
    assert found == keeper.find_latest_checkpoint()


def test_nothing_at_all_is_an_error_that_shows_the_idiom(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFoundError, match="missing_ok=True"):
        manager(tmp_path / "none")[0].load_checkpoint("latest", **training().live())


@pytest.mark.torture
def test_a_root_of_a_hundred_thousand_entries_is_worked_in_like_any_other(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for number in range(100_000):
        if number % 50_000 == 0:  # a file has at most 65,000 names on ext4
            sample = write_sample(tmp_path / "sample", epoch=1, seed=number)
            meta = read_meta(sample)
        copy = root / f"copy-{number:06d}"
        copy.mkdir(parents=True)
        for name in os.listdir(sample):
            if name != layout.META:
                os.link(sample / name, copy / name)
        # Each is a checkpoint of its own.
        moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number)
        own = {"checkpoint_id": str(uuid.uuid4()), "epoch": number, "saved_at": moment}
        (copy / layout.META).write_bytes(encode_meta(meta.model_copy(update=own)))
    keeper, _ = manager(root)
    saved = keeper.save_checkpoint(**training().live(), epoch=100_000)["path"]
    newest = keeper.find_latest_checkpoint()
    assert newest is not None
    assert newest.path == saved
    listing = keeper.list_checkpoints()
    assert len(listing) == 100_001
    assert listing.broken == ()
    removed = keeper.cleanup_checkpoints(keep_best=False, max_checkpoints=0, max_epochs=1_000)
    assert len(removed) == 99_001
    assert len(keeper.copy_to_drive(tmp_path / "copies")) == 1_000
    # Rebuilt from the checkpoints by the first save: every one of them is a line.
    assert len(keeper.get_training_history()["runs"]) >= 1
    done = subprocess.run(
        [sys.executable, "-m", "smartcash_format", "doctor", str(root)],
        cwd=CHECKOUT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert not [name for name in os.listdir(root) if name.startswith(layout.STAGING_PREFIX)]
