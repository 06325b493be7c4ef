"""A checkpoint for others: weights without what only resumes, metadata that tells on nobody.

And the other way: what came from others, validated to the last byte before it is there. Neither
needs torch.
"""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import uuid4

from smartcash_format.disk.derive import derive
from smartcash_format.disk.notes import read_note, replace_note
from smartcash_format.disk.observe import validate
from smartcash_format.disk.publish import write_error
from smartcash_format.disk.read import open_checkpoint
from smartcash_format.disk.signatures import (
    SIGNATURE_BYTES,
    SignedBy,
    signature_of,
    verify_signature,
)
from smartcash_format.disk.transfer import transfer
from smartcash_format.disk.whole_file import whole_file
from smartcash_format.errors import (
    CheckpointExistsError,
    CheckpointNotFoundError,
    InvalidCheckpointError,
    SignatureError,
)
from smartcash_format.integrations.target import list_target
from smartcash_format.spec import layout
from smartcash_format.spec.header import read_header
from smartcash_format.spec.history import HistoryLine
from smartcash_format.spec.meta import Meta
from smartcash_format.spec.personal import Finding, curate, find
from smartcash_format.spec.pickles import scan_torch_file
from smartcash_format.spec.problems import Depth
from smartcash_format.store.catalog import read_entry, scan
from smartcash_format.store.history import append
from smartcash_format.view.card import card

# Markdown that sites of models show; unlisted in the checkpoint, and beside it.
CARD: Final = "README.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """A checkpoint for others, and what was found in it that tells more than the model.

    `removed` says whether that is gone; `kept` is what no removal reaches: in torch files and
    weights files, names of tensors and classes.
    `left_out` are the files of the source that stayed behind.
    """

    path: Path
    card: Path
    findings: tuple[Finding, ...]
    removed: bool
    kept: tuple[Finding, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A checkpoint that is in the root now; `already` where it was there before."""

    source: Path
    path: Path
    already: bool


def share(
    checkpoint: str | os.PathLike[str],
    directory: str | os.PathLike[str],
    *,
    clean: bool = False,
    resume_state: bool = False,
    names: Collection[str] | None = None,
) -> Shared:
    """A new directory with the checkpoint for others, and a model card beside it as a draft.

    The weights and the metadata come along; optimizer, scheduler and extra state only with
    `resume_state`. Absolute paths, users and hosts, environments, command lines and secrets in
    config, notes, tags and names are listed, and with `clean` replaced by `<path>` and the like.
    `names` are users and hosts to look for; None is the user and host of this process.

    Raises CheckpointExistsError where the directory holds anything or is none,
    InvalidCheckpointError where the source is not whole, CheckpointWriteError.
    """
    if isinstance(names, str):
        # Each letter would be a name, and none is long enough to be looked for.
        raise TypeError(f"names is a text, not a list of names; pass [{names!r}]")
    source, target = Path(checkpoint), Path(directory)
    _require_new(target)
    told = _own_names() if names is None else names
    findings: list[Finding] = []

    def change(meta: Meta) -> Meta:
        curated, found = curate(meta, told)
        findings.extend(found)
        return curated if clean else meta

    derived = derive(
        source, target, checkpoint_id=str(uuid4()), resume_state=resume_state, change=change
    )
    with whole_file(target / CARD) as stream:
        stream.write(card(derived.path.name, derived.meta).encode("utf-8"))
    return Shared(
        path=derived.path,
        card=target / CARD,
        findings=tuple(findings),
        removed=clean,
        kept=_in_files(derived.path, told),
        left_out=derived.left_out,
    )


def _require_new(target: Path) -> None:
    try:
        names = os.listdir(target)
    except FileNotFoundError:
        return
    except NotADirectoryError as error:
        message = f"{target} is no directory; nothing was written: name a new one"
        raise CheckpointExistsError(message, path=target) from error
    except OSError as error:
        raise write_error(error, target, "was not written to") from error
    if any(not layout.is_hidden(name) for name in names):
        message = f"{target} is not empty; nothing was written: name a new directory"
        raise CheckpointExistsError(message, path=target)


def receive(
    directory: str | os.PathLike[str],
    root: str | os.PathLike[str],
    *,
    signed_by: SignedBy | None = None,
) -> tuple[Received, ...]:
    """The checkpoints of a directory, or the one that it is, in a root of one's own.

    Each is copied aside and validated at CONTENT before it is visible; what its meta.json does not
    list stays behind. One that the root has, byte for byte, is not copied again. `signed_by` says
    whose signature must hold over each copy; the signature comes along.

    Raises CheckpointNotFoundError where there is none, and InvalidCheckpointError with every breach
    for the first that is not what it says, or SignatureError: those before it are there, by name.
    CheckpointWriteError where the root refuses.
    """
    return tuple(_receive(source, Path(root), signed_by) for source in checkpoints_in(directory))


def checkpoints_in(directory: str | os.PathLike[str]) -> list[Path]:
    """What `receive` takes of a directory, by name, also what cannot be read; absolute paths.

    Raises CheckpointNotFoundError where there is none.
    """
    where = Path(os.path.abspath(directory))
    if read_entry(where) is not None:
        return [where]
    if not where.exists():
        raise CheckpointNotFoundError(f"{directory}: no such directory", root=where.parent)
    listing = scan(where)
    found = [entry.path for entry in listing] + [broken.path for broken in listing.broken]
    if not found:
        raise CheckpointNotFoundError(
            f"{directory} has no checkpoint", root=where, query="checkpoints"
        )
    return sorted(found)


def _receive(source: Path, root: Path, signed_by: SignedBy | None) -> Received:
    signature = signature_of(source)

    def accept(staged: Path) -> None:
        _require_intact(staged, source)
        try:
            if signed_by is not None:
                verify_signature(staged, signed_by, signature=signature)
        except SignatureError as error:  # nobody knows of the copy aside
            said = str(error).replace(staged.name, source.name)
            cause = error.__cause__
            raise SignatureError(said, path=source, signature=error.signature) from cause

    listing = list_target(root)
    done = transfer([source], root, inspect=accept, verify=True)
    if done.skipped and done.skipped[0].kind == "broken":
        _require_intact(source, source)
        raise CheckpointNotFoundError(f"{source}: {done.skipped[0].reason}", root=source.parent)
    if done.skipped and (place := done.skipped[0].place) is not None:
        if signed_by is not None:
            verify_signature(place, signed_by, signature=signature)
            _bring(signature, place)  # whoever received it may have been killed before
        return Received(source=source, path=place, already=True)
    (path,) = done.copied
    if signed_by is not None:
        _bring(signature, path)
    with open_checkpoint(path) as opened:
        append(root, [HistoryLine.of_save(path.name, opened.meta)], listing)
    return Received(source=source, path=path, already=False)


def _bring(signature: Path, checkpoint: Path) -> None:
    """The signature beside the checkpoint that was received."""
    place = signature_of(checkpoint)
    if place == signature:
        return
    data = read_note(signature, SIGNATURE_BYTES)
    try:
        replace_note(place, data)
    except OSError as error:
        raise write_error(error, place, "was not written") from error


def _require_intact(path: Path, source: Path) -> None:
    report = validate(path, Depth.CONTENT)
    if not report.valid:
        raise InvalidCheckpointError(
            f"{source.name} was not received: it is not what it says",
            path=source,
            problems=report.problems,
        )


def _in_files(path: Path, names: Collection[str]) -> tuple[Finding, ...]:
    """What stands where nothing is changed: in weights and torch files, and in what meta.json
    says of them.
    """
    found: list[Finding] = []
    with open_checkpoint(path) as opened:
        for file in sorted(opened.meta.files):
            role, _ = layout.role_of(file)
            stream, size_bytes = opened.raw(file), opened.size(file)
            if role in layout.TORCH_ROLES:
                read, _ = scan_torch_file(stream, size_bytes, where=file)
                assert read is not None  # it was validated before it was published
                found += find(read.value, file, names)
            elif role == "weights":
                header, _ = read_header(stream, size_bytes, where=file)
                assert header is not None  # so was this
                found += find(header.metadata, f"{file}: __metadata__", names)
                found += find(dict.fromkeys(header.tensors), f"{file}: tensors", names)
        described = opened.meta.model_dump(include={"weights", "optimizer", "scheduler", "extra"})
        for field, value in described.items():
            found += find(value, field, names)
    return tuple(found)


def _own_names() -> frozenset[str]:
    """The user and the host of this process, where they have names."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):
        user = ""
    host = socket.gethostname()
    return frozenset({user, host, host.partition(".")[0]})
