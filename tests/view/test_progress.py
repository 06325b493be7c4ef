"""A bar: after a second, where it is seen, and gone when the work ends."""

from __future__ import annotations

import io
import sys
import threading
import time

import pytest
from rich.console import Console

from smartcash_format.view import progress
from smartcash_format.view.progress import is_seen, progress_bar


class Clock:
    """A time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Screen(io.StringIO):
    """A file that is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Console:
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Console(file=Screen(), force_terminal=True, width=100, _environ={"TERM": "xterm"})


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
    # 60 MB in the 3 s since the work began, not since the bar appeared.
    assert "60.0 MB of 100 MB, 20.0 MB/s, 0:02" in shown


def test_what_is_counted_in_something_else_than_bytes_says_in_what(screen: Console) -> None:
    clock = Clock()
    with progress_bar("listing", unit="checkpoints", console=screen, clock=clock) as update:
        assert update is not None
        clock.now += 2
        update(2_500, 10_000)
    assert "2,500 of 10,000 checkpoints, 0:06" in written(screen)


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
        Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "xterm"}),
        Console(file=Screen(), force_terminal=True, _environ={"TERM": "dumb"}),
    ],
    ids=["a pipe", "a pipe with FORCE_COLOR", "a dumb terminal"],
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


def test_what_tells_nothing_is_shown_after_a_second_too(
    screen: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PATIENCE_S", 0.01)
    with progress_bar("signing", console=screen):
        time.sleep(0.3)
    assert "signing" in written(screen)
    assert "0:00" in written(screen)


def test_a_bar_inside_of_another_is_a_line_below_it(screen: Console) -> None:
    clock = Clock()
    with progress_bar("copying", console=screen, clock=clock) as outer:
        assert outer is not None
        clock.now += 2
        outer(1, 2)
        with progress_bar("validating", console=screen, clock=clock) as inner:
            assert inner is not None
            clock.now += 2
            inner(1, 2)
            time.sleep(0.2)  # rich draws ten times a second
    assert "validating" in written(screen)


def test_what_the_program_prints_into_a_pipe_stays_there(
    screen: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    with progress_bar("saving", console=screen, clock=clock) as update:
        assert update is not None
        clock.now += 2
        update(1, 2)
        sys.stdout.write("epoch 1\n")
    assert capsys.readouterr().out == "epoch 1\n"


def test_another_thread_than_the_main_one_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", Screen())
    found: list[object] = []

    def work() -> None:
        with progress_bar("saving") as update:
            found.append(update)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    work()
    assert found[0] is None
    assert found[1] is not None


def test_in_a_notebook_the_bar_is_a_text_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []

    class Handle:
        def update(self, html: str) -> None:
            shown.append(html)

    class Display:
        HTML = str

        @staticmethod
        def display(html: str, *, display_id: bool) -> Handle:
            assert display_id
            shown.append(html)
            return Handle()

    monkeypatch.setitem(sys.modules, "IPython", Display)
    monkeypatch.setitem(sys.modules, "IPython.display", Display)
    clock = Clock()
    with progress_bar("<saving>", console=Console(force_jupyter=True), clock=clock) as update:
        assert update is not None
        update(1_000_000, 4_000_000)
        assert shown == []
        clock.now += 2
        update(2_000_000, 4_000_000)
        update(2_500_000, 4_000_000)  # too soon to be shown
        clock.now += 1
        update(3_000_000, 4_000_000)
    assert len(shown) == 3
    assert "&lt;saving&gt;" in shown[0]
    assert "2.0 MB of 4.0 MB, 1.0 MB/s, 0:02" in shown[0]
    assert shown[-1] == ""
