"""The one Unpickler (architecture, nevers): it imports nothing and calls nothing of a stranger's.

Its find_class gives the few builders of tensors and plain values of inert_values, an inert stand-in
for a class whose name an allow-list has, or refuses by name. It runs in a process apart
(inert_reader), with the standard library alone.

It is Python's own in Python: the one in C makes dicts and sets itself, and hashes what it likes.
"""

from __future__ import annotations

import fnmatch
import pickle
import reprlib
from collections.abc import Callable
from typing import Any, ClassVar, Final, Protocol, cast

from smartcash_format.integrations.inert_values import (
    BUILDERS,
    DTYPES,
    NAMED_TYPES,
    STORAGES,
    Builder,
    Inert,
    Keyed,
    Metadata,
    Refusal,
    Sealed,
    StorageKind,
)
from smartcash_format.spec.keys import Keys

# Whose classes become stand-ins. They only keep what is set on them, so the list says what is
# expected of a training's checkpoint rather than what would be dangerous.
PATTERNS: Final = (
    *("models.*", "utils.*", "ultralytics.*", "yolov5.*", "smartcash.*", "__main__.*"),
    *("torch.nn.*", "torch.optim.*", "torch.amp.*", "torch.torch_version.*", "torchvision.*"),
    *("timm.*", "lightning.*", "lightning_fabric.*", "pytorch_lightning.*", "omegaconf.*"),
    *("transformers.*", "accelerate.*", "numpy.random.*", "argparse.Namespace"),
    *("types.SimpleNamespace", "typing.*", "torch.SymInt", "torch.memory_format"),
)
# Torch numbers its storages, or names them by their addresses.
_KEY_CHARACTERS: Final = 64


class Stream(Protocol):
    """Bytes that are there: never more of them than a program may ask for."""

    def read(self, count: int = ..., /) -> bytes: ...
    def readline(self) -> bytes: ...


class _Memo(dict[int, Any]):
    """Writers count what they memoise from 0 or 1 on; other numbers could share a hash."""

    def __setitem__(self, index: int, value: Any) -> None:
        if index > len(self) + 1:
            raise Refusal(f"memo {index:,}", "no writer of pickles numbers so")
        super().__setitem__(index, value)


class _Members(list[Any]):
    """A set, without hashing its members."""

    add = list.append


class Reader(pickle._Unpickler):
    """An unpickler that imports nothing; `storages` has what the program names, by key."""

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)

    def __init__(self, stream: Stream, patterns: tuple[str, ...]) -> None:
        super().__init__(stream, encoding="utf-8", errors="surrogateescape")
        self.memo = _Memo()
        self._keys = Keys()
        self._patterns = patterns
        self._classes: dict[str, type[Inert]] = {}
        self.storages: dict[str, int] = {}
        self.widths: dict[str, int] = {}

    def find_class(self, module: str, name: str) -> Any:
        # Protocol 2 spells the builtins as Python 2 did.
        asked = f"{module.replace('__builtin__', 'builtins')}.{name}"
        if asked == "collections.OrderedDict":
            return Builder(lambda items=(): Metadata(self._keys).take(items))
        if asked == "collections.Counter":
            return Builder(lambda items=(): Keyed(self._keys).take(items))
        if asked == "collections.defaultdict":
            return Builder(lambda *_: Keyed(self._keys))
        if asked in BUILDERS:
            return Builder(BUILDERS[asked])
        if module == "torch" and name in STORAGES:
            return StorageKind(name)
        if asked == "torch.storage.UntypedStorage":
            return StorageKind("UntypedStorage")
        if module == "torch" and name in DTYPES:
            return f"torch.{name}"
        if asked in NAMED_TYPES or any(fnmatch.fnmatchcase(asked, p) for p in self._patterns):
            return self._stand_in(asked)
        raise Refusal(asked, "no class or function of that name is expected in a checkpoint")

    def _stand_in(self, asked: str) -> type[Inert]:
        if asked not in self._classes:
            body = {"CLASS": asked, "KEYS": self._keys, "__slots__": ()}
            self._classes[asked] = cast(
                "type[Inert]", Sealed(asked.rpartition(".")[2], (Inert,), body)
            )
        return self._classes[asked]

    def persistent_load(self, pid: Any) -> Any:
        # Legacy files name a module's class with its source code, which is not looked at.
        if isinstance(pid, tuple) and len(pid) > 1 and pid[0] in ("module", b"module"):
            return pid[1]
        if not (isinstance(pid, tuple) and len(pid) > 4 and pid[0] in ("storage", b"storage")):
            raise Refusal(reprlib.repr(pid), "is no storage of a tensor")
        if not isinstance(pid[1], StorageKind):
            raise Refusal(reprlib.repr(pid[1]), "is no kind of storage")
        if len(pid) > 5 and pid[5] is not None:
            raise Refusal("a view of a storage", "written by torch before 0.4")
        dtype, width = STORAGES[pid[1].name]
        key, count = str(pid[2]), pid[4]
        if len(key) > _KEY_CHARACTERS or type(count) is not int or count < 0:
            raise Refusal(reprlib.repr(pid), "has a key or a length that torch does not write")
        self.storages[key] = max(self.storages.get(key, 0), count * width)
        self.widths[key] = width
        return key, dtype

    # What Python's own gives its opcodes.
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]

    def _empty_dict(self) -> None:
        self.append(Keyed(self._keys))

    def _dict(self) -> None:
        items = self.pop_mark()
        self.append(Keyed(self._keys).take(zip(items[::2], items[1::2], strict=True)))

    def _empty_set(self) -> None:
        self.append(_Members())

    def _frozenset(self) -> None:
        self.append(tuple(self.pop_mark()))

    dispatch[pickle.EMPTY_DICT[0]] = _empty_dict
    dispatch[pickle.DICT[0]] = _dict
    dispatch[pickle.EMPTY_SET[0]] = _empty_set
    dispatch[pickle.FROZENSET[0]] = _frozenset
    # Bytes that can be changed are made before it is known whether they are there.
    dispatch[pickle.BYTEARRAY8[0]] = dispatch[pickle.BINBYTES8[0]]
