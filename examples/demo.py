"""The main job, shown: a training is killed while it saves, goes on, and nothing was lost.

    python -m examples.demo

Two processes start the same training with the same seed. One is left alone. The other gets SIGKILL
in the middle of a save and is started again. In the end both are compared bit for bit; any
difference, or a kill that did not hit a save, ends the demo with one sentence and exit code 1.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from smartcash_format import CheckpointManager, Depth, validate

OUTPUT_DIR = Path("runs/demo")
ALONE, KILLED = "left-alone", "killed"
EPOCHS = 10
KILLED_WHILE_SAVING = 6
SEED = 0
# A save takes tens of milliseconds: looking for one so often does not miss it.
LOOK_EVERY_S = 0.0005


class DemoError(Exception):
    """What the demo promises did not happen; the message says what did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wreck:
    """What a killed process left of the checkpoint that it was writing, each file with its size."""

    stage: Path
    sizes: dict[str, int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; 0 when everything happened as promised, 1 with a sentence when not."""
    parser = argparse.ArgumentParser(description="Kill a training while it saves, and go on.")
    parser.add_argument("--output-dir", type=Path, default=OUTPUT_DIR)
    output_dir = parser.parse_args(arguments).output_dir
    began = time.monotonic()
    try:
        demonstrate(output_dir)
    except DemoError as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1
    print(f"\nDone in {time.monotonic() - began:.0f} seconds. Both runs are in {output_dir}/")
    return 0


def demonstrate(output_dir: Path) -> None:
    """The whole story. Raises DemoError where it does not go as promised."""
    alone, killed = output_dir / ALONE, output_dir / KILLED
    for root in (alone, killed):
        shutil.rmtree(root, ignore_errors=True)
        record_of(root).unlink(missing_ok=True)
    output_dir.mkdir(parents=True, exist_ok=True)
    print(
        f"A small YOLO learns to find handwritten digits, twice: same seed, {EPOCHS} epochs.\n"
        "One run is left alone, in the background. This is the other one:\n"
    )
    log = output_dir / "left-alone.log"
    with log.open("w") as output, training(alone, output) as reference:
        with training(killed, subprocess.PIPE) as victim:
            relay(victim, until=f"epoch {KILLED_WHILE_SAVING - 1:2}/")
            wreck = kill_in_a_save(victim, killed)
            relay(victim)
        survivors = check_what_is_left(killed, wreck)
        with training(killed, subprocess.PIPE) as again:
            relay(again)
            finished(again, "the restarted run")
        if wreck.stage.exists():
            raise DemoError(f"{wreck.stage.name} is still there after the next save")
        print("\nThe half-written checkpoint was cleared away. Waiting for the other run ...")
        finished(reference, f"the run that was left alone (see {log})")
    compare_runs(alone, killed, resumed_after=survivors)
    show(killed)


def record_of(root: Path) -> Path:
    """Where the training notes the losses of the run that saves under `root`."""
    return root.with_suffix(".jsonl")


def page_of(root: Path) -> Path:
    """Where the report of the run that saves under `root` is, which the README names."""
    return root.with_suffix(".html")


@contextlib.contextmanager
def training(root: Path, output: IO[str] | int) -> Iterator[subprocess.Popen[str]]:
    """The training as a process of its own, which does not outlive the block."""
    command = [sys.executable, "-m", "examples.train_detector", f"--output-dir={root}"]
    command += [f"--epochs={EPOCHS}", f"--seed={SEED}", f"--record={record_of(root)}"]
    with subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def relay(process: subprocess.Popen[str], until: str | None = None) -> None:
    """Show what the process prints, to its end or to the line that starts with `until`."""
    assert process.stdout is not None
    for line in process.stdout:
        print(f"  {line}", end="", flush=True)
        if until is not None and line.startswith(until):
            return


def finished(process: subprocess.Popen[str], who: str) -> None:
    """Wait for the process. Raises DemoError when it did not end well."""
    if code := process.wait():
        raise DemoError(f"{who} ended with exit code {code}")


def kill_in_a_save(process: subprocess.Popen[str], root: Path) -> Wreck:
    """SIGKILL, from outside and while a checkpoint is half written.

    SIGSTOP comes first and holds the process still, so that we see that the save really is not
    over; if it was over already, the process goes on and its next save is waited for.
    """
    while process.poll() is None:
        if half_written(root):
            process.send_signal(signal.SIGSTOP)
            os.waitpid(process.pid, os.WUNTRACED)
            if wreck := half_written(root):
                process.kill()
                process.wait()
                return wreck
            process.send_signal(signal.SIGCONT)
        time.sleep(LOOK_EVERY_S)
    raise DemoError("the training ended before one of its saves could be caught half-way")


def half_written(root: Path) -> Wreck | None:
    """A stage in which something has been written, but not yet meta.json, which comes last."""
    for stage in root.glob(".staging-*"):
        try:
            sizes = {file.name: file.stat().st_size for file in sorted(stage.iterdir())}
        except FileNotFoundError:
            continue  # the save has ended since, and the stage with it
        if any(sizes.values()) and "meta.json" not in sizes:
            return Wreck(stage=stage, sizes=sizes)
    return None


def check_what_is_left(root: Path, wreck: Wreck) -> int:
    """The last epoch that survived. Raises DemoError when more or less did than should have."""
    if half_written(root) != wreck:
        raise DemoError("the half-written checkpoint is not there any more")
    entries = CheckpointManager(root).list_checkpoints()
    finished_epochs = [record["epoch"] for record in read_records(root)]
    if [entry.epoch for entry in entries] != finished_epochs[::-1] or entries.broken:
        raise DemoError(f"after the kill there are the checkpoints {list(map(str, entries))}")
    newest = entries[0]
    print(f"\nSIGKILL, in the middle of saving epoch {newest.epoch + 1}. It left behind, hidden:\n")
    print(f"  {wreck.stage.name}/")
    for name, size in wreck.sizes.items():
        print(f"    {name:20}{size:>12,} bytes")
    print(
        "\nand no meta.json, without which nothing is a checkpoint. The newest is the one\n"
        f"before, {newest.path.name}. The same command again:\n"
    )
    return int(newest.epoch)


def read_records(root: Path) -> list[dict[str, Any]]:
    """What the training noted of each finished epoch."""
    return [json.loads(line) for line in record_of(root).read_text().splitlines()]


def compare_runs(alone: Path, killed: Path, *, resumed_after: int) -> None:
    """Show that both runs saved and noted the same. Raises DemoError at any difference."""
    # torch takes seconds to import: too long for a process that waits for the moment to kill.
    from examples.same_bits import compare, saved_state

    manager, twin = CheckpointManager(killed), CheckpointManager(alone)
    pairs = list(zip(manager.list_checkpoints(), twin.list_checkpoints(), strict=True))
    states = [(saved_state(one.path), saved_state(other.path)) for one, other in pairs]
    newest, *earlier = states
    records = read_records(killed)[resumed_after:], read_records(alone)[resumed_after:]
    since = f"epochs {resumed_after + 1} to {EPOCHS}"
    rows = {part: compare(newest[0][part], newest[1][part]) for part in newest[0]}
    rows[f"loss of each step, {since}"] = compare(*([r["losses"] for r in run] for run in records))
    rows[f"all that was noted, {since}"] = compare(*records)
    rows[f"the {len(earlier)} checkpoints before"] = compare(*zip(*earlier, strict=True))

    print("\nIs it the run that was never interrupted? Both last checkpoints, bit for bit:\n")
    for what, found in rows.items():
        verdict = "DIFFERENT" if found.differences else "the same"
        tensors = f"{found.tensors:,} tensors" if found.tensors else ""
        print(f"  {what:33}{tensors:>14}{found.values:>12,} values  {verdict}")
    different = [f"{what}{place}" for what, row in rows.items() for place in row.differences]
    if different:
        raise DemoError(f"{len(different)} places differ, the first is {different[0]}")


def show(root: Path) -> None:
    """What there is to choose from now, and that it is intact. Raises DemoError if it is not."""
    manager = CheckpointManager(root)
    print()
    manager.display_checkpoints()
    entries = manager.list_checkpoints()
    reports = [validate(entry, depth=Depth.CONTENT) for entry in entries]
    if problems := [problem for report in reports for problem in report.problems]:
        raise DemoError(f"a checkpoint is damaged: {problems[0]}")
    size = sum(entry.size_bytes for entry in entries)
    print(f"\nAll {len(entries)} are intact: {size:,} bytes, each file with its digest.")
    best = manager.find_best_checkpoint()
    if best is None:
        raise DemoError("no checkpoint is the best")
    print(f"The best: epoch {best.epoch}, mAP@0.5 {best.metrics['mAP50']:.3f}, in\n  {best}")
    print(f"To look at, in any browser:\n  {manager.report(page_of(root))}")


if __name__ == "__main__":
    sys.exit(main())
