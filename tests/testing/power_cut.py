"""A real file system that loses power.

Makes a disk image, mounts it, and so many times: lets a process save, protect and prune in a loop,
stops the file system at a random moment without letting it write what it still holds
(EXT4_IOC_SHUTDOWN, XFS_IOC_GOINGDOWN), mounts it again, and looks. Prints what was seen as JSON.
Needs the right to mount, and a mount namespace of its own.

What the kernel has handed to the image is there: a disk that loses or reorders what it said it
holds in its cache is for the model in `power`.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import random
import select
import struct
import subprocess
import time
from pathlib import Path
from typing import Any, Final

from smartcash_format.disk.leftovers import leftovers
from smartcash_format.disk.read import read_meta
from smartcash_format.errors import CheckpointError
from smartcash_format.store.checkpoint_store import CheckpointStore
from smartcash_format.store.retention import KeepLast
from smartcash_format.testing.promise import is_whole, visible
from smartcash_format.testing.sample import write_sample

# _IOR('X', 125, __u32), the same of ext4 and xfs; 2: nothing more is written, the journal neither.
_SHUTDOWN: Final = 0x8004587D
_NOLOGFLUSH: Final = struct.pack("I", 2)
KEPT: Final = 4


def write_on(root: Path, seed: int, out: int) -> None:
    """Saves, protects and prunes until the file system is gone; tells of each before or after."""
    store = CheckpointStore(root)
    for epoch in itertools.count(1):
        path = write_sample(root, epoch=epoch, seed=seed, floats=20_000)
        _tell(out, "saved", path.name)
        meta = read_meta(path)
        store.record_save(path, meta)
        store.protect(path, "the newest")
        _tell(out, "pinned", meta.checkpoint_id)
        plan = store.plan(KeepLast(KEPT))
        for entry in plan.doomed:
            _tell(out, "removing", entry.path.name)
        store.apply(plan)
        _tell(out, "lifting", meta.checkpoint_id)
        store.unprotect(path)


def _tell(out: int, word: str, what: str) -> None:
    os.write(out, f"{word} {what}\n".encode())


def cut_power(mounted: Path, seed: int, seconds: float) -> list[list[str]]:
    """Starts a writer, stops the file system under it after so many seconds; what it had told."""
    reading, out = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            write_on(mounted / "root", seed, out)
        except (CheckpointError, OSError):
            pass  # the file system is gone
        finally:
            os._exit(0)
    os.close(out)
    time.sleep(seconds)
    descriptor = os.open(mounted, os.O_RDONLY)
    os.set_blocking(reading, False)
    before = os.read(reading, 1 << 20) if _waits(reading) else b""
    fcntl.ioctl(descriptor, _SHUTDOWN, _NOLOGFLUSH)
    os.close(descriptor)
    os.waitpid(child, 0)
    after = b""
    while chunk := os.read(reading, 1 << 20):
        after += chunk
    os.close(reading)
    # Without power nobody is told of anything: xfs lets an fsync of a directory return well then.
    # What may be gone is what the writer was about to take away, whenever it said so.
    told = [line.split() for line in before.decode().splitlines()]
    late = [line.split() for line in after.decode().splitlines()]
    return told + [one for one in late if one[0] in ("removing", "lifting")]


def _waits(descriptor: int) -> bool:
    return bool(select.select([descriptor], [], [], 0)[0])


def broken_promises(root: Path, before: set[str], told: list[list[str]], seed: int) -> list[str]:
    """What does not hold after the power came back."""
    store = CheckpointStore(root)
    listing = store.list()
    names = {entry.name for entry in listing}
    saved = [what for word, what in told if word == "saved"]
    removing = {what for word, what in told if word == "removing"}
    found = [f"lost: {name}" for name in {*before, *saved} - removing - names]
    found += [f"not whole: {entry.name}" for entry in listing if not is_whole(entry.path)]
    found += [f"torn: {path.name}" for path in visible(root) if path.name not in names]
    order = [entry.name for entry in listing]
    if saved and saved[-1] not in order[:2]:  # one more may be there than was told
        found.append(f"{saved[-1]} is not among the newest two: {order[:2]}")
    ends = {what for word, what in told if word == "lifting"}
    pinned = {what for word, what in told if word == "pinned"} - ends
    found += [f"not protected: {what}" for what in pinned - {*store.protected()}]
    again = write_sample(root, epoch=9_999, seed=seed)
    if not is_whole(again) or (latest := store.latest()) is None or latest.path != again:
        found.append("the next save is not the newest")
    return [*found, *(f"left over: {left.path.name}" for left in leftovers(root))]


def main(place: Path, rounds: int, seed: int, options: str, mkfs: list[str]) -> dict[str, Any]:
    """What so many power cuts left of the promise."""
    image, mounted = place / "disk", place / "mounted"
    mounted.mkdir()
    with image.open("wb") as file:
        file.truncate(320 << 20)
    made = subprocess.run([*mkfs, str(image)], capture_output=True, text=True, check=False)
    if made.returncode:
        return {"refused": f"{mkfs[0]}: {made.stderr.strip()}"}
    mount = ["mount", "-o", f"loop{options}", str(image), str(mounted)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"refused": done.stderr.strip()}
    chance = random.Random(seed)
    found: dict[str, Any] = {"broken": [], "saved": 0, "cut_in_a_save": 0}
    write_sample(mounted / "root", epoch=0)
    os.sync()
    for number in range(rounds):
        root = mounted / "root"
        before = {path.name for path in visible(root)}
        told = cut_power(mounted, seed + number, chance.uniform(0.02, 0.4))
        subprocess.run(["umount", str(mounted)], check=True)
        subprocess.run(mount, check=True)
        found["saved"] += sum(word == "saved" for word, _ in told)
        found["cut_in_a_save"] += bool(leftovers(root))
        broken = broken_promises(root, before, told, seed + number)
        found["broken"] += [f"round {number}: {sentence}" for sentence in broken]
    return found
