"""A checkpoint into live objects: nothing is touched until everything fits.

path -> meta.json -> version gate -> sizes and structure -> preflight -> digests of all parts that
will be read -> values decoded -> nothing was written to meanwhile -> live objects filled, what is
the user's own code last, RNG after that -> nothing was written to meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any

from smartcash_format.disk.read import Opened, open_checkpoint
from smartcash_format.disk.signatures import SignedBy, require_signed
from smartcash_format.errors import CheckpointError, InvalidCheckpointError, StateMismatchError
from smartcash_format.spec.flags import flag
from smartcash_format.spec.problems import Problem
from smartcash_format.spec.watching import Progress
from smartcash_format.torch_io.asked import live_objects
from smartcash_format.torch_io.components import Component
from smartcash_format.torch_io.inference import made_to_train_with
from smartcash_format.torch_io.parts import Parts
from smartcash_format.torch_io.preflight import compared
from smartcash_format.torch_io.read_state import Device, StateReader, device_of
from smartcash_format.torch_io.result import LoadResult


@made_to_train_with()
def load_checkpoint(
    checkpoint_path: str | os.PathLike[str],
    device: Device = None,
    model: Any = None,
    optimizer: Any = None,
    scheduler: Any = None,
    *,
    strict: bool = True,
    components: Collection[str] | None = None,
    extra: Mapping[str, Any] | None = None,
    verify: bool = True,
    signed_by: SignedBy | None = None,
    progress: Progress | None = None,
) -> LoadResult:
    """The checkpoint at this path, in the live objects that are passed, or as state dicts.

    `model`, `optimizer`, `scheduler` and the values of `extra` are live objects with
    load_state_dict (wrappers such as DistributedDataParallel come off by type), or plain state
    dicts, which are filled in place. A load is a resume when an optimizer is passed: only then are
    the random number generators restored, last of all. `components`, a set of "model",
    "optimizer", "scheduler", "extra" and "rng", says otherwise.

    `strict=False` loads every tensor whose name and shape fit, lists and leaves the rest, and
    leaves fresh the optimizer state of what was not loaded. `verify` compares every byte that is
    read with its digest. `signed_by`, a PEM file of a public key or of trusted certificates, or a
    SigstoreIdentity, says whose signature must hold first. `device` is where the state dicts of the
    result go; None means the CPU. Live objects stay where they are. `progress` is called with
    (bytes verified, bytes to verify), from any thread.

    Raises CheckpointNotFoundError, UnsupportedVersionError, SignatureError, InvalidCheckpointError,
    UnsafeCheckpointError or StateMismatchError, all before anything live is touched, and
    CheckpointError naming what had been restored when the user's own code fails.
    """
    strict, verify = flag(strict, "strict"), flag(verify, "verify")
    target = device_of(device)
    live = live_objects(model, optimizer, scheduler, extra=extra, components=components)
    if signed_by is not None and not verify:
        raise ValueError("signed_by= needs verify=True: a signature is over the digests")
    with open_checkpoint(checkpoint_path) as opened:
        if signed_by is not None:
            opened.hold()  # not even who restores the time of writing gets in between
            require_signed(opened, signed_by)
        parts, restored, report = compared(opened, live, strict=strict)
        _raise_for(opened, report.problems, report.hint)
        if verify:
            parts.verify(progress=progress)
        for component in restored:
            _raise_for(opened, component.prepare(strict=strict))
        parts.confirm()
        notes = _fill(opened, restored)
        _confirm_filled(parts, restored)
        return LoadResult(
            meta=opened.meta,
            path=opened.path,
            report=replace(report, notes=(*report.notes, *notes)),
            read_state=StateReader(opened, verify=verify, device=target),
        )


def _confirm_filled(parts: Parts, restored: Sequence[Component]) -> None:
    """A file that was written to while live objects were filled from it leaves them unknown."""
    try:
        parts.confirm()
    except InvalidCheckpointError as error:
        names = ", ".join(component.name for component in restored)
        raise CheckpointError(
            f"{error}; {names} may have some of what was written: load again"
        ) from error


def _raise_for(opened: Opened, problems: Sequence[Problem], hint: str = "") -> None:
    if problems:
        raise StateMismatchError(
            f"{opened.path.name} does not fit the live objects; nothing was changed",
            problems=problems,
            hint=hint,
        )


def _fill(opened: Opened, components: Sequence[Component]) -> list[str]:
    done: list[str] = []
    notes: list[str] = []
    for component in components:
        if not component.is_late:
            with _Restoring(opened, component.name, done):
                component.restore()
            done.append(component.name)
    for component in components:
        with _Restoring(opened, component.name, done):
            notes += component.finish()
        if component.is_late:
            done.append(component.name)
    return notes


class _Restoring:
    """One live object being filled: an error of its own code names what had been restored."""

    def __init__(self, opened: Opened, name: str, done: Sequence[str]) -> None:
        self._opened = opened
        self._name = name
        self._done = done

    def __enter__(self) -> None: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, Exception):
            done = ", ".join(self._done) or "nothing"
            raise CheckpointError(
                f"{self._opened.path.name}: {self._name} did not take its state "
                f"({type(error).__name__}: {error}) and may have a part of it; "
                f"restored by then: {done}"
            ) from error
