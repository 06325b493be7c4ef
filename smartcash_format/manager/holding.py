"""A reader that holds a checkpoint is not pulled away from it by another process's prune."""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from smartcash_format.disk import pins
from smartcash_format.disk.read import read_meta
from smartcash_format.errors import CheckpointNotFoundError, CheckpointWriteError
from smartcash_format.manager.log import Log
from smartcash_format.spec import layout
from smartcash_format.spec.pin import Pin

# A reader that is killed protects no longer than this; clocks of machines differ by minutes.
HOLD: Final = timedelta(hours=1)
RENEW_S: Final = HOLD.total_seconds() / 6


@contextlib.contextmanager
def hold(path: Path, log: Log) -> Iterator[Path]:
    """The checkpoint's path, pinned until the block ends.

    Where its root cannot be written nothing is pinned, and the log says so. Raises
    CheckpointNotFoundError or InvalidCheckpointError when there is no checkpoint.
    """
    where = Path(os.path.realpath(path))
    root, checkpoint_id = where.parent, read_meta(where).checkpoint_id
    holder, process = f"reader-{secrets.token_hex(8)}", os.getpid()
    done = threading.Event()
    try:
        _pin(root, checkpoint_id, holder)
    except CheckpointWriteError as error:
        log.warning(
            f"{path} is not pinned, another process's cleanup may remove it meanwhile: {error}"
        )
        yield path
        return
    renewing = threading.Thread(
        target=_renew, args=(root, checkpoint_id, holder, done, log), daemon=True
    )
    renewing.start()
    try:
        # Whoever removed it before it was pinned has done so by now; later ones see the pin.
        if not os.path.lexists(where / layout.META):
            raise CheckpointNotFoundError(f"{path}: removed this moment", root=root)
        yield path
    finally:
        if process == os.getpid():  # a forked child leaves its parent's pin
            done.set()
            renewing.join()
            with contextlib.suppress(CheckpointWriteError):  # it ends by itself
                pins.lift_pin(root, checkpoint_id, holder=holder)


def _pin(root: Path, checkpoint_id: str, holder: str) -> None:
    pin = Pin(reason="a reader holds it", until=datetime.now(UTC) + HOLD)
    pins.write_pin(root, checkpoint_id, pin, holder=holder)


def _renew(root: Path, checkpoint_id: str, holder: str, done: threading.Event, log: Log) -> None:
    while not done.wait(RENEW_S):
        try:
            _pin(root, checkpoint_id, holder)
        except CheckpointWriteError as error:
            log.warning(f"the pin of what is being read was not renewed: {error}")
