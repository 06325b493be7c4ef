"""What the manager's calls give back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from smartcash_format.disk.transfer import Skipped

SaveType = Literal["best", "latest", "emergency", "skipped"]


class SaveResult(Mapping[str, Any]):
    """A save: a mapping with `path`, `type`, `checkpoint_id`, `bytes`, `seconds`, `removed`.

    `path` is a Path, or None for type "skipped" (another rank writes). `linked` are the names of
    the files that it shares with the checkpoint before. `warnings` are what was logged as warnings.
    That of a save in the background completes itself when the checkpoint is published.
    """

    def __init__(
        self,
        *,
        path: Path | None,
        type: SaveType,
        checkpoint_id: str | None = None,
        bytes: int = 0,
        seconds: float = 0.0,
        linked: Iterable[str] = (),
        removed: Iterable[Path] = (),
        warnings: Iterable[str] = (),
    ) -> None:
        self._values: dict[str, Any] = {
            "path": path,
            "type": type,
            "checkpoint_id": checkpoint_id,
            "bytes": bytes,
            "seconds": seconds,
            "linked": tuple(linked),
            "removed": tuple(removed),
            "warnings": tuple(warnings),
        }

    def complete(self, published: SaveResult) -> SaveResult:
        """This result, which from now on says what the finished one says."""
        self._values = dict(published)  # at once: another thread may be reading it
        return self

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    if not TYPE_CHECKING:  # a type checker is to find what is not there

        def __getattr__(self, name: str) -> Any:
            known = not name.startswith("_") and name in self._values
            hint = f"; it is a mapping: result[{name!r}]" if known else ""
            raise AttributeError(f"SaveResult has no attribute {name!r}{hint}")

    def __repr__(self) -> str:
        return f"SaveResult({self._values!r})"


class CopyResult(list[Path]):
    """The paths that this call copied.

    `skipped` has what was there already, or was not whole, with the reason; `note` what is still
    going on, such as Drive's upload.
    """

    def __init__(
        self, copied: Iterable[Path] = (), *, skipped: Iterable[Skipped] = (), note: str = ""
    ) -> None:
        super().__init__(copied)
        self.skipped: tuple[Skipped, ...] = tuple(skipped)
        self.note = note
