"""A mount like Drive's, served by this process from a directory: it renames children one by one.

No chmod, no links, no fsync of directories. It speaks the kernel's FUSE protocol itself, so it
needs /dev/fuse and the right to mount, and no library. It can be told to die in a rename.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final

_IN: Final = struct.Struct("<IIQQIIIHH")
_ATTR: Final = struct.Struct("<6Q10I")
_MAX_WRITE: Final = 128 << 10
_MODE: Final = 1
_SIZE: Final = 8
_RENAME_FLAGS_AT: Final = 16


def mount(directory: Path) -> int:
    """A descriptor of /dev/fuse, mounted at `directory`. Raises OSError where that is refused."""
    descriptor = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={descriptor},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"drive", os.fsencode(directory), b"fuse.drive", 6, options.encode()):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return descriptor


class Server:
    """Answers the kernel from `backing`; after `moves` children of one rename it exits."""

    def __init__(self, descriptor: int, backing: Path, moves: int | None = None) -> None:
        self._fuse = descriptor
        self._paths: dict[int, str] = {1: str(backing)}
        self._ids: dict[str, int] = {str(backing): 1}
        self._moves = moves
        self._answers: dict[int, Callable[[int, bytes], bytes | None]] = {
            1: self._lookup, 2: lambda node, data: None, 3: lambda node, data: self._attr_out(node),
            4: self._setattr, 9: self._mkdir, 10: self._unlink, 11: self._rmdir,
            12: lambda node, data: self._rename(node, data, 8),
            14: self._open, 15: self._read, 16: self._write, 17: self._statfs, 18: self._release,
            20: self._fsync, 25: lambda node, data: b"", 26: self._init,
            27: lambda node, data: bytes(16), 28: self._readdir, 29: lambda node, data: b"",
            35: self._create, 36: lambda node, data: None, 42: lambda node, data: None,
            45: lambda node, data: self._rename(node, data, _RENAME_FLAGS_AT),
        }  # fmt: skip

    def run(self) -> None:
        """Answers until the mount is gone."""
        while True:
            try:
                request = os.read(self._fuse, _MAX_WRITE + 65536)
            except OSError as error:
                if error.errno in (errno.EINTR, errno.ENOENT):
                    continue
                return
            _, opcode, unique, node, *_ = _IN.unpack_from(request)
            answer: bytes | None = b""
            number = 0
            try:
                if opcode == 30:
                    raise OSError(errno.EINVAL, "no fsync of directories")
                if opcode == 13:
                    raise OSError(errno.EPERM, "no links")
                if opcode not in self._answers:
                    raise OSError(errno.ENOSYS, "not implemented")
                answer = self._answers[opcode](node, request[_IN.size :])
            except OSError as error:
                answer, number = b"", error.errno or errno.EIO
            if answer is not None:
                head = struct.pack("<IiQ", 16 + len(answer), -number, unique)
                with contextlib.suppress(FileNotFoundError):  # it was interrupted
                    os.write(self._fuse, head + answer)

    def _child(self, node: int, name: bytes) -> str:
        return f"{self._paths[node]}/{os.fsdecode(name.rstrip(bytes(1)))}"

    def _id(self, path: str) -> int:
        if path not in self._ids:
            self._ids[path] = max(self._paths) + 1
            self._paths[self._ids[path]] = path
        return self._ids[path]

    def _attr(self, path: str) -> bytes:
        facts = os.lstat(path)
        times = (facts.st_atime_ns, facts.st_mtime_ns, facts.st_ctime_ns)
        return _ATTR.pack(
            facts.st_ino, facts.st_size, facts.st_blocks, *(t // 10**9 for t in times),
            *(t % 10**9 for t in times), facts.st_mode, facts.st_nlink, facts.st_uid,
            facts.st_gid, 0, 4096, 0,
        )  # fmt: skip

    def _attr_out(self, node: int) -> bytes:
        return bytes(16) + self._attr(self._paths[node])

    def _entry(self, path: str) -> bytes:
        attributes = self._attr(path)
        return struct.pack("<QQQQII", self._id(path), 0, 0, 0, 0, 0) + attributes

    def _init(self, node: int, data: bytes) -> bytes:
        return struct.pack("<IIIIHHIIHHI28x", 7, 31, 0, 0, 12, 10, _MAX_WRITE, 1, 32, 0, 0)

    def _lookup(self, node: int, data: bytes) -> bytes:
        return self._entry(self._child(node, data))

    def _setattr(self, node: int, data: bytes) -> bytes:
        valid, _, _, size = struct.unpack_from("<IIQQ", data)
        if valid & _MODE:
            raise OSError(errno.EPERM, "no modes")
        if valid & _SIZE:
            os.truncate(self._paths[node], size)
        return self._attr_out(node)

    def _mkdir(self, node: int, data: bytes) -> bytes:
        path = self._child(node, data[8:])
        os.mkdir(path)
        return self._entry(path)

    def _unlink(self, node: int, data: bytes) -> bytes:
        os.unlink(self._forget(self._child(node, data)))
        return b""

    def _rmdir(self, node: int, data: bytes) -> bytes:
        path = self._child(node, data)
        os.rmdir(path)
        self._forget(path)
        return b""

    def _forget(self, path: str) -> str:
        known = self._ids.pop(path, None)
        if known is not None:
            self._paths[known] = path
        return path

    def _rename(self, node: int, data: bytes, names_at: int) -> bytes:
        (target,) = struct.unpack_from("<Q", data)
        one, two = data[names_at:].split(bytes(1))[:2]
        old, new = self._child(node, one), self._child(target, two)
        if not stat.S_ISDIR(os.lstat(old).st_mode):
            os.rename(old, new)
        else:
            self._rename_children(old, new)
        for path, known in list(self._ids.items()):
            if path == old or path.startswith(f"{old}/"):
                del self._ids[path]
                moved = new + path.removeprefix(old)
                self._ids[moved] = known
                self._paths[known] = moved
        return b""

    def _rename_children(self, old: str, new: str) -> None:
        if os.path.isdir(new) and os.listdir(new):
            raise OSError(errno.ENOTEMPTY, "not empty")
        os.makedirs(new, exist_ok=True)
        for count, name in enumerate(sorted(os.listdir(old))):
            if count == self._moves:
                os._exit(0)
            os.rename(f"{old}/{name}", f"{new}/{name}")
        os.rmdir(old)

    def _open(self, node: int, data: bytes) -> bytes:
        (flags,) = struct.unpack_from("<I", data)
        mode = flags & os.O_ACCMODE
        return struct.pack("<QII", os.open(self._paths[node], mode | (flags & os.O_TRUNC)), 0, 0)

    def _create(self, node: int, data: bytes) -> bytes:
        flags, mode = struct.unpack_from("<II", data)
        path = self._child(node, data[16:])
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | (flags & os.O_EXCL), mode & 0o777)
        return self._entry(path) + struct.pack("<QII", descriptor, 0, 0)

    def _read(self, node: int, data: bytes) -> bytes:
        handle, offset, size = struct.unpack_from("<QQI", data)
        return os.pread(handle, size, offset)

    def _write(self, node: int, data: bytes) -> bytes:
        handle, offset, size = struct.unpack_from("<QQI", data)
        return struct.pack("<II", os.pwrite(handle, data[40 : 40 + size], offset), 0)

    def _release(self, node: int, data: bytes) -> bytes:
        os.close(struct.unpack_from("<Q", data)[0])
        return b""

    def _fsync(self, node: int, data: bytes) -> bytes:
        os.fsync(struct.unpack_from("<Q", data)[0])
        return b""

    def _statfs(self, node: int, data: bytes) -> bytes:
        facts = os.statvfs(self._paths[1])
        numbers = (facts.f_blocks, facts.f_bfree, facts.f_bavail, facts.f_files, facts.f_ffree)
        return struct.pack("<5Q4I24x", *numbers, facts.f_bsize, 255, facts.f_frsize, 0)

    def _readdir(self, node: int, data: bytes) -> bytes:
        _, offset, size = struct.unpack_from("<QQI", data)
        found = b""
        names = [".", "..", *sorted(os.listdir(self._paths[node]))]
        for number, name in enumerate(names[offset:], offset + 1):
            text = os.fsencode(name)
            entry = struct.pack("<QQII", number, number, len(text), 0) + text
            entry += bytes(-len(entry) % 8)
            if len(found) + len(entry) > size:
                break
            found += entry
        return found
