from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from smartcash_format.errors import CheckpointWriteError
from smartcash_format.manager.checkpoint_manager import CheckpointManager
from smartcash_format.manager.guard import Guard, State
from smartcash_format.torch_io import save as saving
from tests.manager.training import Training, manager, said, same, training

ITERATIONS = 6
SIGTERM, SIGINT = signal.SIGTERM, signal.SIGINT


class Terminated(Exception):
    """What the handler that was there before raises."""


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """SIGTERM as a program may have it; both as they were after the test."""

    def end(number: int, frame: object) -> None:
        raise Terminated

    before = {number: signal.getsignal(number) for number in (SIGTERM, SIGINT)}
    signal.signal(SIGTERM, end)
    signal.signal(SIGINT, signal.default_int_handler)
    yield
    found = {number: signal.getsignal(number) for number in (SIGTERM, SIGINT)}
    for number, handler in before.items():
        signal.signal(number, handler)
    assert found == {SIGTERM: end, SIGINT: signal.default_int_handler}


class BetweenUpdates(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Calls `strike` behind the first update of a parameter, and counts them."""

    def __init__(self, strike: Callable[[], object]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.strike = strike
        self.updates = 0

    def __torch_dispatch__(
        self, func: Any, types: object, args: Any = (), kwargs: Any = None
    ) -> object:
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.addcdiv_.default:
            self.updates += 1
            if self.updates == 1:
                self.strike()
        return result


def run(
    keeper: CheckpointManager,
    made: Training,
    start: int = 0,
    strike: Callable[[int], object] = lambda iteration: None,
    **options: Any,
) -> None:
    """Iterations after `start`, guarded; `strike` is called inside the optimizer's step.

    When the first of its parameters has got its new values and the others have not.
    """
    now = start
    between: list[BetweenUpdates] = []
    modes = ExitStack()

    def enter(optimizer: object, args: object, kwargs: object) -> None:
        between.append(BetweenUpdates(lambda: strike(now)))
        modes.enter_context(between[-1])

    def leave(optimizer: object, args: object, kwargs: object) -> None:
        modes.close()
        assert between[-1].updates == len([*made.model.parameters()]) > 1

    hooks = [
        made.optimizer.register_step_pre_hook(enter),
        made.optimizer.register_step_post_hook(leave),
    ]
    state = lambda: {**made.live(), "epoch": 1, "step": now}  # noqa: E731
    try:
        with keeper.guard(state, **options) as guard:
            while now < ITERATIONS:
                now += 1
                made.step()
                guard.step()
    finally:
        for hook in hooks:
            hook.remove()


def guarded(
    keeper: CheckpointManager, state: State, body: Callable[[Guard], object], **options: Any
) -> None:
    with keeper.guard(state, **options) as guard:
        body(guard)


def kill(*numbers: int) -> None:
    for number in numbers:
        os.kill(os.getpid(), number)


def send(number: int, at: int) -> Callable[[int], None]:
    def strike(iteration: int) -> None:
        if iteration == at:
            os.kill(os.getpid(), number)

    return strike


@pytest.mark.no_cover
@pytest.mark.parametrize(("number", "raised"), [(SIGTERM, Terminated), (SIGINT, KeyboardInterrupt)])
@pytest.mark.parametrize("at", [1, 3, ITERATIONS])
def test_a_run_that_got_a_signal_in_the_optimizers_step_goes_on_bit_for_bit(
    tmp_path: Path, number: int, raised: type[BaseException], at: int
) -> None:
    whole = training()
    run(manager(tmp_path / "other")[0], whole)

    keeper, log = manager(tmp_path / "root")
    with pytest.raises(raised):
        run(keeper, training(), strike=send(number, at))
    assert f"{signal.Signals(number).name} came: saved" in said(log, "warning")

    again = training(seed=99)
    loaded = manager(tmp_path / "root")[0].load_checkpoint("latest", **again.live())
    assert loaded["step"] == at
    run(keeper, again, start=at)
    assert same(again.state(), whole.state())


def test_the_save_is_one_and_of_type_emergency(tmp_path: Path) -> None:
    keeper, _ = manager(tmp_path)
    made = training()
    guards: list[Guard] = []

    def body(guard: Guard) -> None:
        guards.append(guard)
        kill(SIGTERM, SIGTERM)
        guard.step()

    with pytest.raises(Terminated):
        guarded(keeper, lambda: {**made.live(), "epoch": 4}, body)
    saved = guards[0].saved
    assert saved is not None
    assert (saved["type"], saved["path"].is_dir()) == ("emergency", True)
    assert [entry.epoch for entry in keeper.list_checkpoints()] == [4]


def test_without_a_signal_nothing_is_saved_and_the_handlers_are_back(tmp_path: Path) -> None:
    keeper, _ = manager(tmp_path)
    run(keeper, training())
    assert len(keeper.list_checkpoints()) == 0


def test_a_signal_after_the_last_step_is_saved_at_the_end_of_the_block(tmp_path: Path) -> None:
    keeper, _ = manager(tmp_path)
    made = training()
    with pytest.raises(Terminated), keeper.guard(lambda: {**made.live(), "epoch": 1}):
        os.kill(os.getpid(), SIGTERM)
    assert len(keeper.list_checkpoints()) == 1


def test_an_exception_in_the_iteration_saves_nothing_and_says_so(tmp_path: Path) -> None:
    keeper, log = manager(tmp_path)

    def body(guard: Guard) -> None:
        kill(SIGTERM)
        raise ZeroDivisionError

    with pytest.raises(Terminated) as caught:
        guarded(keeper, dict, body)
    assert isinstance(caught.value.__context__, ZeroDivisionError)
    assert len(keeper.list_checkpoints()) == 0
    assert "ended with ZeroDivisionError: nothing was saved" in said(log, "warning")


def wait_for_the_signal(*numbers: int) -> None:
    kill(*numbers)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        time.sleep(0.01)


def test_an_iteration_that_outlasts_the_grace_saves_nothing_and_says_so(tmp_path: Path) -> None:
    keeper, log = manager(tmp_path)
    with pytest.raises(Terminated):
        guarded(keeper, dict, lambda guard: wait_for_the_signal(SIGTERM), grace_s=0.05)
    assert len(keeper.list_checkpoints()) == 0
    assert "no iteration ended within 0.05 s: nothing was saved" in said(log, "warning")


def test_a_second_interrupt_does_not_wait(tmp_path: Path) -> None:
    keeper, _ = manager(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        guarded(keeper, dict, lambda guard: wait_for_the_signal(SIGINT, SIGINT))
    assert len(keeper.list_checkpoints()) == 0


def test_a_signal_during_the_save_does_not_break_it(tmp_path: Path) -> None:
    keeper, _ = manager(tmp_path)
    made = training()

    def state() -> dict[str, Any]:
        kill(SIGINT, SIGINT)
        return {**made.live(), "epoch": 1}

    def body(guard: Guard) -> None:
        kill(SIGTERM)
        guard.step()

    with pytest.raises(Terminated):
        guarded(keeper, state, body)
    assert len(keeper.list_checkpoints()) == 1


def test_a_save_that_fails_is_logged_and_the_signal_goes_on(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    keeper, log = manager(tmp_path / "file")
    made = training()

    def body(guard: Guard) -> None:
        kill(SIGTERM)
        guard.step()

    with pytest.raises(Terminated) as caught:
        guarded(keeper, lambda: {**made.live(), "epoch": 1}, body)
    assert isinstance(caught.value.__context__, CheckpointWriteError)
    assert "its save failed, the last checkpoint stands" in said(log, "error")


def test_an_ignored_signal_stays_ignored(tmp_path: Path) -> None:
    signal.signal(SIGINT, signal.SIG_IGN)
    keeper, _ = manager(tmp_path)
    with keeper.guard(dict) as guard:
        os.kill(os.getpid(), SIGINT)
        guard.step()
    assert signal.getsignal(SIGINT) is signal.SIG_IGN
    signal.signal(SIGINT, signal.default_int_handler)


def test_in_another_thread_it_says_that_no_signal_is_waited_for(tmp_path: Path) -> None:
    keeper, log = manager(tmp_path)

    def body() -> None:
        with keeper.guard(dict) as guard:
            guard.step()

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert "guard: Python hands signals to the main thread alone" in said(log, "warning")


def test_the_watching_thread_ends_with_the_block(tmp_path: Path) -> None:
    keeper, _ = manager(tmp_path)
    before = threading.active_count()
    for _ in range(5):
        with keeper.guard(dict):
            pass
    deadline = time.monotonic() + 30
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before


class Numbers(torch.utils.data.Dataset[torch.Tensor]):
    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor(index)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_workers_of_a_data_loader_end_as_ever(tmp_path: Path) -> None:
    keeper, _ = manager(tmp_path)
    with keeper.guard(dict) as guard:
        loader = torch.utils.data.DataLoader(
            Numbers(), num_workers=1, multiprocessing_context="fork"
        )
        batches = iter(loader)
        next(batches)
        (worker,) = batches._workers  # type: ignore[attr-defined]
        os.kill(worker.pid, SIGINT)  # as Ctrl-C in a terminal: it must not end before its parent
        assert len(list(batches)) == 7
        del batches
        guard.step()


@pytest.mark.parametrize(
    ("grace_s", "error"),
    [("25", TypeError), (True, TypeError), (None, TypeError), (-1, ValueError),
     (float("nan"), ValueError), (float("inf"), ValueError)],
)  # fmt: skip
def test_a_grace_that_nobody_can_wait_for_is_refused(
    tmp_path: Path, grace_s: Any, error: type[Exception]
) -> None:
    keeper, _ = manager(tmp_path)
    with pytest.raises(error, match=r"grace_s is .*number of seconds"):
        keeper.guard(dict, grace_s)


def test_a_guard_of_two_phases_saves_for_a_signal_in_each(tmp_path: Path) -> None:
    keeper, _ = manager(tmp_path)
    made, epochs = training(), iter((1, 2))
    guard = keeper.guard(lambda: {**made.live(), "epoch": next(epochs)})

    def phase() -> None:
        with guard:
            kill(SIGTERM)
            guard.step()

    for _ in range(2):
        with pytest.raises(Terminated):
            phase()
    assert [entry.epoch for entry in keeper.list_checkpoints()] == [2, 1]


def test_a_guard_is_not_entered_within_itself(tmp_path: Path) -> None:
    keeper, _ = manager(tmp_path)
    guard = keeper.guard(dict)
    with guard, pytest.raises(RuntimeError, match="this guard is entered already"):
        guarded_again(guard)


def guarded_again(guard: Guard) -> None:
    with guard:
        raise AssertionError("entered twice")


def test_a_state_that_is_no_dict_is_named_and_the_signal_goes_on(tmp_path: Path) -> None:
    keeper, log = manager(tmp_path)
    nothing: Any = lambda: None  # noqa: E731

    def body(guard: Guard) -> None:
        kill(SIGTERM)
        guard.step()

    with pytest.raises(Terminated):
        guarded(keeper, nothing, body)
    assert "guard() gives NoneType, not a dict with the arguments" in said(log, "error")


def test_a_save_in_the_background_is_published_before_the_signal_goes_on_without_a_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper, _ = manager(tmp_path)
    real, found = saving.publish, list[int]()

    def slow(prepared: saving.Prepared) -> saving.Saved:
        time.sleep(0.5)  # longer than a signal takes that waits for nothing
        return real(prepared)

    monkeypatch.setattr(saving, "publish", slow)
    before = signal.signal(SIGTERM, lambda *_: found.append(len(keeper.list_checkpoints())))

    def no_state() -> dict[str, Any]:
        raise KeyError("epoch")

    def body(guard: Guard) -> None:
        keeper.save_checkpoint(**training().live(), epoch=1, blocking=False)
        kill(SIGTERM)
        guard.step()

    try:
        with pytest.raises(KeyError):
            guarded(keeper, no_state, body)
    finally:
        signal.signal(SIGTERM, before)
    assert found == [1]
