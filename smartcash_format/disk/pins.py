"""What is protected in this root: one small file a checkpoint, beside the checkpoints.

A pruner reads them before it removes; no file of the checkpoint itself is touched.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from smartcash_format.disk.durable import sync_directory
from smartcash_format.disk.notes import read_note, remove_note, replace_note
from smartcash_format.errors import CheckpointWriteError
from smartcash_format.spec import layout, limits
from smartcash_format.spec.pin import Pin, encode_pin, parse_pin, pinned_id


def root_of(path: str | os.PathLike[str]) -> Path:
    """The root that a checkpoint really lies in, whatever links lead to it: its pins are there."""
    return Path(os.path.realpath(path)).parent


def read_pins(root: Path, now: datetime) -> dict[str, str]:
    """Checkpoint ids that are protected at `now`, each with the reason.

    Raises OSError when the pins are there and cannot be listed: then nothing may be removed.
    """
    return {
        checkpoint_id: f"protected: {pin.reason}"
        for name, pin in _pins(root / layout.PINS)
        if (pin.until is None or pin.until > now) and (checkpoint_id := pinned_id(name))
    }


def is_held(root: Path, checkpoint_id: str, now: datetime, *, but: Pin | None = None) -> bool:
    """Whether anybody protects a checkpoint at `now`, `but` this pin without a holder.

    Raises OSError as `read_pins` does.
    """
    plain = layout.pin_file(checkpoint_id)
    return any(
        pinned_id(name) == checkpoint_id
        and (pin.until is None or pin.until > now)
        and not (name == plain and pin == but)
        for name, pin in _pins(root / layout.PINS)
    )


def _pins(directory: Path) -> Iterator[tuple[str, Pin]]:
    try:
        names = sorted(os.listdir(directory))
    except FileNotFoundError:
        return
    for name in names:
        if pinned_id(name) is None:
            continue
        try:
            yield name, parse_pin(read_note(directory / name, limits.PIN_BYTES + 1))
        except FileNotFoundError:
            continue  # lifted since the names were read
        except OSError as error:
            yield name, Pin(reason=f"its pin cannot be read: {error.strerror}")


def read_pin(root: Path, checkpoint_id: str) -> Pin | None:
    """The pin that `write_pin` wrote for a checkpoint; None when there is none."""
    try:
        data = read_note(root / layout.PINS / layout.pin_file(checkpoint_id), limits.PIN_BYTES + 1)
    except FileNotFoundError:
        return None
    return parse_pin(data)


def write_pin(root: Path, checkpoint_id: str, pin: Pin, *, holder: str = "") -> None:
    """Protects a checkpoint of the root, or replaces the reason of its protection.

    Pins of several holders do not replace one another. Raises CheckpointWriteError when the system
    refuses; an earlier pin stays then.
    """
    directory = root / layout.PINS
    try:
        directory.mkdir(exist_ok=True)
        if directory.is_symlink():  # another's root may lead anywhere
            raise OSError(errno.ELOOP, f"{layout.PINS} is a link")
        replace_note(directory / layout.pin_file(checkpoint_id, holder), encode_pin(pin))
        # Always: whoever made the directory may have been killed before its name was durable.
        sync_directory(root)
    except OSError as error:
        raise _refused("protected", directory, error) from error


def lift_pin(root: Path, checkpoint_id: str, *, holder: str = "") -> None:
    """Lifts the protection that `write_pin` gave; nothing happens where there is none.

    Raises CheckpointWriteError when the system refuses.
    """
    path = root / layout.PINS / layout.pin_file(checkpoint_id, holder)
    try:
        remove_note(path)
    except OSError as error:
        raise _refused("unprotected", path, error) from error


def clear_ended(root: Path, now: datetime) -> None:
    """Removes the pins whose end has passed, as those of readers that were killed."""
    directory = root / layout.PINS
    if directory.is_symlink():
        return  # what it leads to is not this root's
    for name, pin in list(_pins(directory)):
        if pin.until is not None and pin.until <= now:
            with contextlib.suppress(OSError):  # it protects nothing any more
                remove_note(directory / name)


def _refused(what: str, path: Path, error: OSError) -> CheckpointWriteError:
    return CheckpointWriteError(
        f"the checkpoint was not {what}: {error.strerror}", path=path, errno=error.errno
    )
