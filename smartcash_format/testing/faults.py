"""Every call that changes a directory tree, seen as it is made, and failed or killed at will.

All writers of this package are Python and go through `os`; so inside `with Layer(root):` every such
call on something below `root` is one point of a list, named so that the same operation has the
same points in every run. A `Fault` strikes at one of them: the process is killed there, or the
call fails with an errno, once or from then on. A `Mount` makes the tree behave like storage that
can do less than a local disk.
"""

from __future__ import annotations

import errno
import functools
import os
import re
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from smartcash_format.testing.points import LOCAL, Event, Fault, Mount, Point

_CREATING: Final = os.O_CREAT | os.O_TRUNC
# What differs between two runs of one operation: the owner in a stage's name, a probe's digits,
# the digits of a checkpoint's id.
_CHANCE: Final = re.compile(r"(\.staging|\.trash|\.probe|epoch-[0-9]+)-[0-9a-f-]+")
# With these a part of the data may have arrived before the call fails.
_PARTIAL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO})


@dataclass(slots=True)
class Layer:
    """While it is entered, what this process does below `root` is seen, and the fault strikes.

    `points` has every call in the order it was made, `events` those that succeeded, `unseen` the
    files below the root that were opened for writing by something else than `os`: it must stay
    empty.
    """

    root: Path
    mount: Mount = LOCAL
    at: Point | None = None
    fault: Fault | None = None
    points: list[Point] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    _real: dict[str, Any] = field(default_factory=dict)
    _files: dict[int, str] = field(default_factory=dict)
    _counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    _lock: Any = field(default_factory=threading.RLock)
    _struck: bool = False

    def __enter__(self) -> Layer:
        self.root = Path(os.path.abspath(self.root))
        for name, wrapped in self._wrappers().items():
            if hasattr(os, name):
                self._real[name] = getattr(os, name)
                setattr(os, name, wrapped)
        _active.append(self)
        _install_audit()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _active.remove(self)
        for name, real in self._real.items():
            setattr(os, name, real)
        self._real.clear()

    def _wrappers(self) -> dict[str, Callable[..., Any]]:
        wrappers: dict[str, Callable[..., Any]] = {
            "open": self._open,
            "close": self._close,
            "write": self._write,
            "pwrite": self._pwrite,
            "fsync": self._fsync,
            "fdatasync": self._fsync,
            "ftruncate": self._truncate,
            "truncate": self._truncate,
            "rename": self._rename,
            "replace": self._rename,
            "link": self._link,
            "symlink": self._symlink,
            "mkdir": self._mkdir,
            "rmdir": self._rmdir,
            "unlink": self._unlink,
            "remove": self._unlink,
            "utime": self._utime,
            "chmod": self._chmod,
        }
        return wrappers

    def _relative(self, path: Any, directory: int | None = None) -> str | None:
        """The path below the root, or None for what lies elsewhere."""
        if isinstance(path, int):
            return self._files.get(path)
        text = os.fsdecode(path)
        if directory is not None:
            base = self._files.get(directory)
            return None if base is None else os.path.normpath(os.path.join(base, text))
        below = os.path.relpath(os.path.abspath(text), self.root)
        return None if below.startswith("..") else below

    def _step(self, op: str, path: str, call: Callable[[], Any], half: Any = None) -> Any:
        """Makes a call, unless the fault strikes here; `half` makes a part of a write."""
        with self._lock:
            spelled = _CHANCE.sub(r"\1", path)
            self._counts[op, spelled] += 1
            point = Point(op, spelled, self._counts[op, spelled])
            self.points.append(point)
            strikes = point == self.at or (
                self._struck and self.fault is not None and self.fault.lasting
            )
            self._struck = self._struck or strikes
        if strikes and self.fault is not None:
            self._strike(self.fault, half)
        return call()

    def _strike(self, fault: Fault, half: Any) -> None:
        if half is not None and (fault.effect == "tear" or fault.errno in _PARTIAL):
            half()
        if fault.effect != "fail":
            os.kill(os.getpid(), signal.SIGKILL)
            signal.pause()
        raise OSError(fault.errno, os.strerror(fault.errno))

    def _note(self, op: str, path: str, **facts: Any) -> None:
        with self._lock:
            self.events.append(Event(op=op, path=path, **facts))

    def _open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        below = self._relative(path, dir_fd)
        real = self._real["open"]
        if below is None:
            return int(real(path, flags, mode, dir_fd=dir_fd))

        def call() -> int:
            with _quiet():
                return int(real(path, flags, mode, dir_fd=dir_fd))

        if flags & _CREATING:
            known = os.path.lexists(self.root / below)
            descriptor = self._step("create", below, call)
            if not known:
                self._note("create", below)
            elif flags & os.O_TRUNC:
                self._note("truncate", below)
        else:
            descriptor = call()
        self._files[descriptor] = below
        return int(descriptor)

    def _close(self, descriptor: int) -> None:
        self._files.pop(descriptor, None)
        self._real["close"](descriptor)

    def _write(self, descriptor: int, data: Any) -> int:
        below = self._files.get(descriptor)
        real = self._real["write"]
        if below is None:
            return int(real(descriptor, data))
        view = memoryview(data).cast("B")

        def call(part: memoryview = view) -> int:
            written = int(real(descriptor, part))
            offset = os.lseek(descriptor, 0, os.SEEK_CUR) - written
            self._note("write", below, offset=offset, data=bytes(part[:written]))
            return written

        return int(self._step("write", below, call, lambda: call(view[: len(view) // 2])))

    def _pwrite(self, descriptor: int, data: Any, offset: int) -> int:
        below = self._files.get(descriptor)
        real = self._real["pwrite"]
        if below is None:
            return int(real(descriptor, data, offset))
        view = memoryview(data).cast("B")

        def call(part: memoryview = view) -> int:
            written = int(real(descriptor, part, offset))
            self._note("write", below, offset=offset, data=bytes(part[:written]))
            return written

        return int(self._step("write", below, call, lambda: call(view[: len(view) // 2])))

    def _fsync(self, descriptor: int) -> None:
        below = self._files.get(descriptor)
        if below is None:
            self._real["fsync"](descriptor)
            return
        is_directory = os.path.isdir(self.root / below)

        def call() -> None:
            if is_directory and not self.mount.syncs_directories:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            self._real["fsync"](descriptor)
            self._note("fsync", below)

        self._step("fsync", below, call)

    def _truncate(self, path: Any, length: int) -> None:
        self._simple("truncate", path, None, lambda: self._real["truncate"](path, length), length)

    def _mkdir(self, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        self._simple("mkdir", path, dir_fd, lambda: self._real["mkdir"](path, mode, dir_fd=dir_fd))

    def _rmdir(self, path: Any, *, dir_fd: int | None = None) -> None:
        self._simple("rmdir", path, dir_fd, lambda: self._real["rmdir"](path, dir_fd=dir_fd))

    def _unlink(self, path: Any, *, dir_fd: int | None = None) -> None:
        self._simple("unlink", path, dir_fd, lambda: self._real["unlink"](path, dir_fd=dir_fd))

    def _utime(self, path: Any, *args: Any, **options: Any) -> None:
        self._mode("utime", path, lambda: self._real["utime"](path, *args, **options))

    def _chmod(self, path: Any, *args: Any, **options: Any) -> None:
        self._mode("chmod", path, lambda: self._real["chmod"](path, *args, **options))

    def _mode(self, op: str, path: Any, call: Callable[[], Any]) -> None:
        below = self._relative(path)
        if below is None:
            call()
        else:
            self._step(op, below, call if self.mount.modes else _refuse)

    def _symlink(self, source: Any, target: Any, **options: Any) -> None:
        below = self._relative(target, options.get("dir_fd"))
        call = functools.partial(self._real["symlink"], source, target, **options)
        if below is None:
            call()
        else:
            self._step("symlink", below, call)

    def _link(self, source: Any, target: Any, **options: Any) -> None:
        old = self._relative(source, options.get("src_dir_fd"))
        new = self._relative(target, options.get("dst_dir_fd"))
        if new is None:
            self._real["link"](source, target, **options)
            return

        def call() -> None:
            self._real["link"](source, target, **options)
            self._note("link", old or "", target=new)

        self._step("link", new, call if self.mount.links else _refuse)

    def _simple(
        self, op: str, path: Any, directory: int | None, real: Callable[[], Any], length: int = 0
    ) -> None:
        below = self._relative(path, directory)
        if below is None:
            real()
            return

        def call() -> None:
            real()
            self._note(op, below, offset=length)

        self._step(op, below, call)

    def _rename(self, source: Any, target: Any, **options: Any) -> None:
        old = self._relative(source, options.get("src_dir_fd"))
        new = self._relative(target, options.get("dst_dir_fd"))
        if old is None or new is None:
            self._real["rename"](source, target, **options)
            return
        is_directory = os.path.isdir(self.root / old) and not os.path.islink(self.root / old)

        def call() -> None:
            if is_directory and self.mount.refuses_directory_rename:
                number = self.mount.refuses_directory_rename
                raise OSError(number, os.strerror(number))
            self._real["rename"](source, target, **options)
            self._note("rename", old, target=new)

        if is_directory and self.mount.renames_children:
            self._step("rename", old, lambda: self._rename_children(old, new))
        else:
            self._step("rename", old, call)

    def _rename_children(self, old: str, new: str) -> None:
        source, target = self.root / old, self.root / new
        if os.path.isdir(target) and os.listdir(target):
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
        real = self._real
        self._step("child-mkdir", old, lambda: real["mkdir"](target))
        for name in sorted(os.listdir(source)):
            move = functools.partial(real["rename"], source / name, target / name)
            self._step("child-rename", f"{old}/{name}", move)
        self._step("child-rmdir", old, lambda: real["rmdir"](source))


def _refuse() -> None:
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


_active: list[Layer] = []
_inside = threading.local()
_audited: list[bool] = []


class _quiet:  # noqa: N801
    """While it is entered, an opening is our own."""

    def __enter__(self) -> None:
        _inside.depth = getattr(_inside, "depth", 0) + 1

    def __exit__(self, *error: object) -> None:
        _inside.depth -= 1


def _install_audit() -> None:
    if not _audited:  # an audit hook stays for ever: one is enough
        _audited.append(True)
        sys.addaudithook(_audit)


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if event != "open" or not _active or getattr(_inside, "depth", False):
        return
    path, _, flags = args
    writing = os.O_WRONLY | os.O_RDWR | _CREATING
    # A path, or a descriptor that `open()` wraps: its writes go past `os` too.
    if not isinstance(path, str | int) or not isinstance(flags, int) or not flags & writing:
        return
    for layer in _active:
        below = layer._relative(path)
        if below is not None:
            layer.unseen.append(below)
