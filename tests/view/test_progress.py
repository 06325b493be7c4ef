"""A bar: after a second, where it is seen, and gone when the work ends."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from smartcash_format.view.progress import is_seen, progress_bar


class Clock:
    """A time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Console:
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Console(
        file=io.StringIO(), force_terminal=True, width=100, _environ={"TERM": "xterm"}
    )  # fmt: skip


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_bar_with_rate_and_size_appears_after_a_second_and_not_before(screen: Console) -> None:
    clock = Clock()
    with progress_bar("saving", console=screen, clock=clock) as update:
        assert update is not None
        update(10_000_000, 100_000_000)
        clock.now += 0.9
        update(20_000_000, 100_000_000)
        assert written(screen) == ""
        clock.now += 1.1
        update(40_000_000, 100_000_000)
        clock.now += 1
        update(60_000_000, 100_000_000)
    shown = written(screen)
    assert "saving" in shown
    assert "/100.0 MB" in shown


def test_nothing_is_left_when_the_work_fails(screen: Console) -> None:
    clock = Clock()

    def work() -> None:
        with progress_bar("saving", console=screen, clock=clock) as update:
            assert update is not None
            clock.now += 2
            update(1, 2)
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        work()
    # The cursor is shown again, and the line of the bar erased.
    assert written(screen).rstrip().endswith("\x1b[2K")
    assert "\x1b[?25h" in written(screen)


@pytest.mark.parametrize(
    "console",
    [
        Console(file=io.StringIO()),
        Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "dumb"}),
    ],
    ids=["a pipe", "a dumb terminal"],
)
def test_where_nobody_would_see_it_there_is_none(console: Console) -> None:
    assert not is_seen(console)
    with progress_bar("saving", console=console) as update:
        assert update is None


def test_a_name_with_markup_is_text(screen: Console) -> None:
    clock = Clock()
    with progress_bar("[bold]x[/bold]", console=screen, clock=clock) as update:
        assert update is not None
        clock.now += 2
        update(1, 2)
    assert "[bold]x[/bold]" in written(screen)
