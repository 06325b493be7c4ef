"""Every question asked of a root, with each byte counted that is read from weights and torch files.

`python -m tests.metered ROOT` prints, as JSON, what each question opened, read and mapped, whether
torch was loaded by then, and its exit code. A process of its own: an audit hook, which sees every
file that Python opens, can never be taken off again.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import smartcash_format as package
from smartcash_format.cli import main as cli

HEAVY = (".safetensors", ".pt")


class Meter:
    """What was done to heavy files since the last `reset`: names opened, ranges read."""

    def __init__(self) -> None:
        self.reset()
        sys.addaudithook(self._heard)
        for name in ("read", "pread", "preadv"):
            setattr(os, name, self._counted(getattr(os, name)))

    def reset(self) -> None:
        self.opened: list[str] = []
        self.ranges: dict[str, list[tuple[int, int]]] = {}

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str | bytes):
            name = os.path.basename(os.fsdecode(arguments[0]))
            if name.endswith(HEAVY):
                self.opened.append(name)
        elif event == "mmap.__new__":
            # Whoever maps a part of a file may read all of it.
            descriptor, count, _, begin = arguments
            self._note(descriptor, begin, count or os.fstat(descriptor).st_size)

    def _counted(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(descriptor: int, *arguments: Any) -> Any:
            begin = arguments[1] if len(arguments) > 1 else os.lseek(descriptor, 0, os.SEEK_CUR)
            done = real(descriptor, *arguments)
            self._note(descriptor, begin, done if isinstance(done, int) else len(done))
            return done

        return call

    def _note(self, descriptor: int, begin: int, count: int) -> None:
        name = os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))
        if name.endswith(HEAVY):
            self.ranges.setdefault(name, []).append((begin, begin + count))


def commands(root: Path, newest: Path, older: Path) -> Iterator[tuple[str, list[object]]]:
    """A name and the arguments of every command, those that remove last."""
    yield "ls", ["ls", root]
    yield "ls -r --where", ["ls", root.parent, "-r", "--where", "metrics.val_loss>=0"]
    yield "ls --format json", ["ls", root, "--format", "json"]
    yield "best", ["best", root, "--metric", "val_loss:min"]
    yield "show", ["show", newest]
    yield "tensors", ["tensors", newest]
    yield "tensors --tree", ["tensors", newest, "--tree"]
    yield "diff", ["diff", older, newest]
    yield "history", ["history", root]
    yield "report", ["report", root, "-o", root.parent / "report.html"]
    yield "schema", ["schema"]
    yield "prune", ["prune", root, "--keep-last", "2"]
    yield "validate --depth meta", ["validate", root, "--depth", "meta"]
    yield "validate --depth structure", ["validate", newest]
    yield "doctor", ["doctor", root]
    yield "validate --depth content", ["validate", newest, "--depth", "content"]
    yield "storage-test", ["storage-test", root.parent]
    for name in cli.COMMANDS:
        yield f"{name} --help", [name, "--help"]
    yield "--help", ["--help"]
    yield "--show-completion", ["--show-completion", "bash"]
    yield "prune --apply", ["prune", root, "--keep-last", "2", "--apply"]


def calls(root: Path, newest: Path, older: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """A name and a call for every question that Python may ask."""
    manager = package.CheckpointManager(root)
    store = package.CheckpointStore(root)
    yield "list_checkpoints()", manager.list_checkpoints
    yield "filter_checkpoints()", lambda: manager.filter_checkpoints(metrics={"val_loss": ">=0"})
    yield "find_best_checkpoint()", lambda: manager.find_best_checkpoint("val_loss", "min")
    yield "find_latest_checkpoint()", manager.find_latest_checkpoint
    yield "find_checkpoint_by_epoch()", lambda: manager.find_checkpoint_by_epoch(1)
    yield "display_checkpoints()", manager.display_checkpoints
    yield "get_training_history()", manager.get_training_history
    yield "plan_cleanup()", lambda: manager.plan_cleanup(max_checkpoints=1)
    yield "read_meta()", lambda: package.read_meta(newest)
    yield "diff()", lambda: package.diff(older, newest)
    yield "search()", lambda: package.search(root.parent)
    yield "lineage()", store.lineage
    yield "validate(META)", lambda: package.validate(newest, package.Depth.META)
    yield "validate(STRUCTURE)", lambda: package.validate(newest)
    yield "validate_checkpoint()", lambda: manager.validate_checkpoint(newest)


def main(root: Path) -> None:
    """Asks everything and prints what it took."""
    # What typer has for tests: the shell is the one named, not the one that started make.
    os.environ["_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION"] = "1"
    meter = Meter()
    newest, older, *_ = sorted(root.glob("epoch-*"), reverse=True)
    found = {}
    for name, call in calls(root, newest, older):
        found[name] = _asked(meter, call)
    for name, arguments in commands(root, newest, older):
        found[name] = _asked(meter, lambda given=arguments: _command(given))  # type: ignore[misc]
    sys.stdout.write(json.dumps(found))


def _asked(meter: Meter, call: Callable[[], object]) -> dict[str, object]:
    meter.reset()
    code = 0
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            call()
        except SystemExit as stopped:
            code = stopped.code if isinstance(stopped.code, int) else 0
    return {
        "code": code,
        "opened": meter.opened,
        "ranges": meter.ranges,
        "torch": bool({"torch", "numpy"} & sys.modules.keys()),
    }


def _command(arguments: list[object]) -> None:
    sys.argv = ["smartcash-format", *map(str, arguments)]
    cli.main()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
