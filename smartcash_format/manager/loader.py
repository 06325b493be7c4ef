"""The half of a manager that loads: which checkpoint is meant, and what is said about it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, SupportsIndex

from smartcash_format.disk.mounts import file_system, is_mapped
from smartcash_format.disk.read import is_checkpoint
from smartcash_format.errors import (
    CheckpointNotFoundError,
    InvalidCheckpointError,
    UnsafeCheckpointError,
    UnsupportedVersionError,
)
from smartcash_format.manager import choosing
from smartcash_format.manager.background import Background
from smartcash_format.manager.choosing import PathLike
from smartcash_format.manager.log import Logger, size
from smartcash_format.manager.reader import CheckpointReader, Mode, no_root
from smartcash_format.spec.flags import flag
from smartcash_format.spec.meta import Meta
from smartcash_format.store import query
from smartcash_format.store.catalog import Listing

if TYPE_CHECKING:
    from smartcash_format.disk.signatures import SignedBy
    from smartcash_format.torch_io.read_state import Device
    from smartcash_format.torch_io.result import LoadResult


class CheckpointLoader(CheckpointReader):
    """A reader that also restores live objects; torch is imported by the first load."""

    def __init__(
        self,
        output_dir: PathLike = "runs/train/weights",
        logger: Logger | None = None,
        *,
        monitor: str | None = None,
        mode: Mode | None = None,
    ) -> None:
        super().__init__(output_dir, logger, monitor=monitor, mode=mode)
        self._parent_id: str | None = None
        # One save at a time: each looks at what the one before left.
        self._saving = threading.RLock()
        self._background = Background(self._log)

    def load_checkpoint(
        self,
        checkpoint_path: PathLike | SupportsIndex | None = None,
        device: Device = None,
        model: object = None,
        optimizer: object = None,
        scheduler: object = None,
        *,
        strict: bool = True,
        components: Collection[str] | None = None,
        extra: Mapping[str, object] | None = None,
        missing_ok: bool = False,
        fallback: bool = False,
        verify: bool = True,
        signed_by: SignedBy | None = None,
    ) -> LoadResult:
        """What a checkpoint holds, restored into the live objects that are passed.

        `checkpoint_path`: a path, an epoch (int), "best", "latest"; None is the best, or the newest
        when nothing ranks. With an optimizer the load is a resume: random number state comes back
        too. Nothing live changes unless everything fits; with `strict=False` what fits is loaded
        and the rest is listed. `components` names what is restored, of model, optimizer, scheduler,
        extra and rng, else what is passed is; `extra` maps the names of the save to live objects.
        Live tensors stay where they are: `device` is for the state dicts of the result.
        `signed_by`, a PEM file of a public key or of trusted certificates, or a SigstoreIdentity,
        says whose signature must hold first.

        Raises CheckpointNotFoundError when nothing is there (`missing_ok=True` gives an empty
        result instead, but never where a broken checkpoint lies), StateMismatchError when it does
        not fit, SignatureError, InvalidCheckpointError, UnsafeCheckpointError or
        UnsupportedVersionError, OSError where the system does not let it be read; for the last four
        `fallback=True` goes on to the newest that passes, and says which it skipped and why.
        Without it "latest" is the last one saved, also where that can no longer be read.
        """
        from smartcash_format.torch_io.load import load_checkpoint
        from smartcash_format.torch_io.result import LoadResult

        missing_ok, fallback = flag(missing_ok, "missing_ok"), flag(fallback, "fallback")
        self._background.raise_error("nothing was loaded for it; the next call loads")
        started = time.perf_counter()
        # Passing over a broken one is never silent: said in one line here, one by one there.
        listing = self._store.list()
        if not fallback:
            self._say_broken(listing)

        def load(path: Path) -> LoadResult:
            return load_checkpoint(
                path,
                device=device,
                model=model,
                optimizer=optimizer,
                scheduler=scheduler,
                strict=strict,
                components=components,
                extra=extra,
                verify=verify,
                signed_by=signed_by,
            )

        if fallback and (len(listing) or listing.broken):
            path, result = self._first_that_passes(checkpoint_path, listing, load)
        else:
            chosen = self._choose(checkpoint_path, listing, missing_ok=missing_ok)
            if chosen is None:
                self._log.info(f"{self._root} has no checkpoint: a fresh start")
                return LoadResult()
            path, result = chosen, load(chosen)
        for note in choosing.remarks(
            result.notes, result.missing, result.unexpected, result.mismatched
        ):
            self._log.warning(note)
        self._say_if_not_mapped(path)
        meta = result.meta
        assert meta is not None, "a result of a path has its meta"
        hint = ""
        if checkpoint_path is None and (newer := choosing.newer_than(listing, meta)) is not None:
            hint = f'; a newer one is {newer.name}: load_checkpoint("latest") loads it'
        self._log.info(
            f"loaded {path} (epoch {meta.epoch}, {size(meta.size_bytes)}, "
            f"{choosing.casts(result.cast)}{time.perf_counter() - started:.2f} s){hint}"
        )
        if "optimizer" in result.restored:
            self._note_resume(path, meta)
        return result

    def _say_if_not_mapped(self, path: Path) -> None:
        try:
            kind = file_system(os.stat(path).st_dev)
        except OSError:
            return  # a cleanup has removed it meanwhile: all of it is loaded
        if not is_mapped(kind):
            self._log.debug(f"{path} lies on {kind}: its files were read, not mapped")

    def _first_that_passes(
        self,
        asked: PathLike | SupportsIndex | None,
        listing: Listing,
        load: Callable[[Path], LoadResult],
    ) -> tuple[Path, LoadResult]:
        """What was asked for, or else the newest that loads; each that is skipped is said."""
        problems = [problem for broken in listing.broken for problem in broken.problems]
        refused: OSError | None = None
        for broken in listing.broken:
            self._log.warning(f"skipped {broken.path.name}: {broken.reason}")
        for path in self._candidates(asked, listing):
            try:
                return path, load(path)
            except (
                InvalidCheckpointError,
                UnsafeCheckpointError,
                UnsupportedVersionError,
            ) as error:
                self._log.warning(f"skipped {path.name}: {error}")
                problems += getattr(error, "problems", ())
            except OSError as error:
                # A bad sector, a mount that stalls; or a cleanup has removed it since the listing.
                if isinstance(error, CheckpointNotFoundError) and not _is_in(path, listing):
                    raise
                self._log.warning(f"skipped {path.name}: {_reason(error)}")
                refused = error
        if problems:
            raise InvalidCheckpointError(
                f"no checkpoint in {self._root} can be loaded; nothing live was changed",
                path=self._root,
                problems=problems,
            ) from refused
        raise refused or choosing.nothing_to_load(self._root, str(asked), listing)

    def _candidates(self, asked: PathLike | SupportsIndex | None, listing: Listing) -> list[Path]:
        newest_first = [entry.path for entry in listing]
        if asked == "latest":
            return newest_first
        if asked is None or asked == "best":
            best = self._best_of(listing)
            first = [] if best is None else [best.path]
        else:
            chosen = self._choose(asked, listing, missing_ok=False)
            first = [] if chosen is None else [chosen]
        return [*first, *(path for path in newest_first if path not in first)]

    def _note_resume(self, path: Path, meta: Meta) -> None:
        with self._saving:
            self._parent_id = meta.checkpoint_id
        if not self._root.is_dir() or is_checkpoint(self._root):
            return  # a load touches nothing on disk but the history of a root that is there
        for warning in self._store.record_resume(path, meta, run_id=self._run_id):
            self._log.warning(warning)

    def _choose(
        self, asked: PathLike | SupportsIndex | None, listing: Listing, *, missing_ok: bool
    ) -> Path | None:
        if not len(listing) and _is_ranked(asked) and (problem := no_root(self._root)):
            raise CheckpointNotFoundError(problem, root=self._root)
        match asked:
            case None | "best" | "latest":
                return self._choose_ranked(asked, listing, missing_ok=missing_ok)
            case bool():
                raise TypeError("checkpoint_path is a path, an epoch, 'best' or 'latest'")
            case SupportsIndex():
                epoch = asked.__index__()
                entry = query.by_epoch(listing, epoch)
                if entry is None:
                    raise choosing.no_such_epoch(self._root, epoch, listing)
                return entry.path
        if not isinstance(asked, str | os.PathLike):
            raise TypeError(
                f"checkpoint_path is {type(asked).__name__}, not a path, an epoch, 'best' or "
                "'latest'; live objects go by name: load_checkpoint(model=model)"
            )
        path = self._resolve(asked)
        if not os.path.lexists(path):
            raise choosing.no_such_path(os.fspath(asked), self._root, listing)
        return path

    def _choose_ranked(
        self, asked: str | None, listing: Listing, *, missing_ok: bool
    ) -> Path | None:
        choosing.refuse_newer_versions(self._root, listing)
        chosen = None if asked == "latest" else self._best_of(listing)
        if chosen is None and asked != "latest":
            self._say_unknown(listing, self._monitor)
        if chosen is None and asked != "best":
            chosen = query.latest(listing)
            if chosen is not None and (broken := self._store.newest_broken(listing)) is not None:
                raise choosing.newest_is_broken(broken, chosen)
            if chosen is not None and asked is None:
                self._log.info("no checkpoint is marked or ranked best; taking the newest")
        if chosen is not None:
            return chosen.path
        if missing_ok and not listing.broken and not len(listing):
            return None
        raise choosing.nothing_to_load(self._root, asked, listing)


def _is_ranked(asked: PathLike | SupportsIndex | None) -> bool:
    """Whether it is looked for among the checkpoints of the root."""
    return asked in (None, "best", "latest") or isinstance(asked, SupportsIndex)


def _is_in(path: Path, listing: Listing) -> bool:
    return any(entry.path == path for entry in listing)


def _reason(error: OSError) -> str:
    name = f"{error.filename}: " if error.filename else ""
    return f"{name}{error.strerror or error}"
