"""What a person sees: each command at the widths that terminals have, and what a pipe gets.

Each file of `screens` shows one command, width after width; `python -m tests.cli.test_screens`
writes them anew, to be read before they are kept.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest import mock

import pytest

from smartcash_format.cli.commands import best, ls, show
from smartcash_format.cli.main import main
from smartcash_format.testing.sample import write_sample
from tests.store.checkpoints import START
from tests.view.roots import weighed_run

SCREENS = Path(__file__).parent / "screens"
PIPE = "a pipe"
WIDTHS = ("80", "120", "200", PIPE)
ROOT = Path("runs/weights")
OLD, NEW = (str(ROOT / name) for name in ("epoch-0003-00000003", "epoch-0014-00000016"))
COMMANDS: dict[str, list[object]] = {
    "ls": ["ls", ROOT],
    "ls-roots": ["ls", ROOT, "samples", "damaged"],
    "best": ["best", ROOT, "--metric", "val_loss:min", "--format", "table"],
    "show": ["show", NEW],
    "tensors": ["tensors", OLD],
    "tensors-tree": ["tensors", OLD, "--tree"],
    "diff": ["diff", OLD, NEW],
    "validate": ["validate", "samples", OLD],
    "prune": ["prune", ROOT, "--keep-last", "3", "--keep-best", "val_loss:min"],
    "history": ["history", ROOT],
    "doctor": ["doctor", "damaged"],
}


class _Later(datetime):
    """Five hours after the first checkpoint, whenever it is asked."""

    @classmethod
    def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
        return START + timedelta(hours=5)


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def make_runs() -> None:
    """A run that was resumed, two sound samples, and a root in which nothing is as it should be."""
    weighed_run(ROOT)
    for name in ("samples", "damaged"):
        for epoch in (1, 2):
            write_sample(Path(name), epoch=epoch, saved_at=datetime(2026, 1, 31, epoch, tzinfo=UTC))
    damaged = Path("damaged")
    path = write_sample(damaged, epoch=3, saved_at=datetime(2026, 1, 31, 3, tzinfo=UTC))
    (path / "meta.json").write_text("{")
    (damaged / ".staging-of-another-machine").mkdir()
    (damaged / "old.pth").write_bytes(b"")
    (damaged / "epoch-0004-cut").mkdir()
    (damaged / "epoch-0004-cut" / "model.safetensors").write_bytes(b"cut")
    (damaged / "training_history.yaml").write_text("- {torn\n")


@contextlib.contextmanager
def surroundings(width: str) -> Iterator[None]:
    """A terminal of this width, without colours; or a pipe."""
    environment = {"NO_COLOR": "1", "TERM": "xterm", "COLUMNS": width.replace(PIPE, "40")}
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.dict(os.environ, environment))
        for name in ("FORCE_COLOR", "COLORTERM"):
            os.environ.pop(name, None)
        for command in (ls, best, show):
            stack.enter_context(mock.patch.object(command, "datetime", _Later))
        yield


def screen(name: str, width: str) -> str:
    """What a command prints, what it says about it in the end included."""
    out = io.StringIO() if width == PIPE else _Terminal()
    arguments = ["smartcash-format", *map(str, COMMANDS[name])]
    with (
        surroundings(width),
        mock.patch.object(sys, "argv", arguments),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(out),
        contextlib.suppress(SystemExit),
    ):
        main()
    lines = out.getvalue().replace("\x1b[1m", "").replace("\x1b[2m", "").replace("\x1b[3m", "")
    return "\n".join(line.rstrip() for line in lines.replace("\x1b[0m", "").splitlines())


def screens(name: str) -> str:
    """A command at every width; of those that look alike the first is shown."""
    line = " ".join(map(str, COMMANDS[name]))
    shown: dict[str, list[str]] = {}
    for width in WIDTHS:
        shown.setdefault(screen(name, width), []).append(width)
    parts = [f"$ smartcash-format {line}"]
    parts += [f"----- {', '.join(widths)}\n{text}" for text, widths in shown.items()]
    return "\n\n".join(parts) + "\n"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("place")
    with contextlib.chdir(place):
        make_runs()
    return place


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_looks_as_it_was_looked_at(
    name: str, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runs)
    assert screens(name) == (SCREENS / f"{name}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", COMMANDS)
def test_no_line_is_wider_than_its_terminal(
    name: str, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runs)
    for width in WIDTHS[:-1]:
        # What is said on standard error is one line, for scripts.
        lines = [
            line
            for line in screen(name, width).splitlines()
            if not line.startswith("smartcash-format: ")
        ]
        assert max(map(len, lines)) <= int(width)


if __name__ == "__main__":
    SCREENS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
        make_runs()
        for each in COMMANDS:
            (SCREENS / f"{each}.txt").write_text(screens(each), encoding="utf-8")
