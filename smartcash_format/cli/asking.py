"""What several commands ask for alike: roots, conditions, a metric with its mode."""

from __future__ import annotations

import errno
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from smartcash_format.cli import exits
from smartcash_format.spec import layout
from smartcash_format.store import query
from smartcash_format.store.catalog import Listing, merge, scan
from smartcash_format.store.query import Mode
from smartcash_format.store.tree import search

if TYPE_CHECKING:
    from smartcash_format.disk.signatures import SignedBy as Signer

Root = Annotated[Path, typer.Argument(help="A directory of checkpoints.", metavar="ROOT")]
Roots = Annotated[list[Path], typer.Argument(help="Directories of checkpoints.", metavar="ROOT")]
Checkpoint = Annotated[Path, typer.Argument(help="A checkpoint directory.", metavar="CHECKPOINT")]
FORM: Final = typer.Option("--format", help="How the answer is printed.")
Recursive = Annotated[
    bool, typer.Option("--recursive", "-r", help="Search the whole tree below each ROOT.")
]
Wheres = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="CONDITION",
        help="FIELD OPERATOR VALUE, such as 'metrics.val_map>=0.5'; all of several must hold.",
    ),
]

SignedBy = Annotated[
    str | None,
    typer.Option(
        "--signed-by",
        metavar="SIGNER",
        help="A PEM file of a public key or of trusted certificates, or sigstore:IDENTITY,ISSUER.",
    ),
]
_SIGSTORE = "sigstore:"


def parse_signed_by(text: str | None) -> Signer | None:
    """The signer that `--signed-by` names. Raises ValueError that shows the form."""
    if text is None or not text.startswith(_SIGSTORE):
        return text
    identity, _, issuer = text.removeprefix(_SIGSTORE).partition(",")
    if not identity or not issuer:
        raise ValueError(f"{text!r} names no signer; it is sigstore:IDENTITY,ISSUER")
    from smartcash_format.disk.signatures import SigstoreIdentity  # few commands need it

    return SigstoreIdentity(identity=identity, issuer=issuer)


def listing_of(roots: Sequence[Path], *, recursive: bool) -> Listing:
    """The checkpoints of all roots.

    Raises FileNotFoundError for a root that is not there, ValueError for one that is a checkpoint.
    """
    for root in roots:
        require_root(root)
    found = [search(root) if recursive else scan(root) for root in roots]
    for root, listing in zip(roots, found, strict=True):
        is_empty = not listing and not listing.broken
        if is_empty:
            refuse_checkpoint(root)
        if is_empty and not recursive:
            point_below(root)
    return merge(found)


def point_below(root: Path) -> bool:
    """Says on standard error that a directory without checkpoints may have roots below it.

    False where it has no directory either, and nothing was said.
    """
    if not any(path.is_dir() and not layout.is_hidden(path.name) for path in root.iterdir()):
        return False
    ls = f"smartcash-format ls -r {shlex.quote(str(root))}"
    exits.complain(f"{root} has no checkpoint of its own; {ls} shows those below it")
    return True


def refuse_checkpoint(root: Path) -> None:
    """Raises ValueError where a directory without checkpoints is one itself."""
    if (root / layout.META).exists():
        show = f"smartcash-format show {shlex.quote(str(root))}"
        raise ValueError(f"{root} is a checkpoint, not a directory of them: {show}")


def require_root(root: Path) -> None:
    """Raises FileNotFoundError or NotADirectoryError, as the system would."""
    if not root.is_dir():
        code = errno.ENOTDIR if root.exists() else errno.ENOENT
        what = "is no directory" if root.exists() else "no such directory"
        raise OSError(code, what, str(root))


def filtered(listing: Listing, wheres: Iterable[str] | None) -> Listing:
    """Those of a listing that meet every condition. Raises ValueError that shows the form.

    Where none does, a metric that no checkpoint has is named on standard error.
    """
    conditions = [query.parse_where(text) for text in wheres or ()]
    found = listing.only(
        entry for entry in listing if all(condition(entry) for condition in conditions)
    )
    for each in conditions if not found else ():
        is_metric = each.field.startswith(query.METRICS)
        name = each.field.removeprefix(query.METRICS)
        if is_metric and (unknown := query.unknown_metric(listing, name)):
            exits.complain(unknown)
    return found


def parse_metric(text: str | None) -> tuple[str | None, Mode | None]:
    """The metric and mode of `val_map:max`. Raises ValueError that shows the form."""
    if text is None:
        return None, None
    name, _, mode = text.rpartition(":")
    if mode == "max" and name:
        return name, "max"
    if mode == "min" and name:
        return name, "min"
    raise ValueError(f"{text!r} names no metric and mode; it is METRIC:max or METRIC:min")
