"""Where in a tree of directories are checkpoints? Names alone are read to find the roots."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from smartcash_format.spec import layout
from smartcash_format.spec.problems import Problem
from smartcash_format.spec.watching import watched
from smartcash_format.store.catalog import Listing, merge, scan
from smartcash_format.store.entry import Broken


def find_roots(tree: str | os.PathLike[str]) -> Iterator[Path]:
    """Every directory in the tree, itself included, that has checkpoints or a history in it.

    Only names are read. Hidden directories and links are not entered, nor are checkpoints. A
    directory that cannot be read is given too: whoever scans it learns why.
    """
    pending = [os.fspath(tree)]
    while pending:
        directory = pending.pop()
        inside, is_root = _look_into(directory)
        if is_root:
            yield Path(directory)
        pending += reversed(inside)


def search(tree: str | os.PathLike[str]) -> Listing:
    """The checkpoints of every root in the tree, as one listing, newest first."""
    with watched(f"searching {os.fspath(tree)}"):
        return merge(map(_scan_or_say, find_roots(tree)))


def _scan_or_say(root: Path) -> Listing:
    try:
        return scan(root)
    except OSError as error:
        message = f"cannot be listed: {error.strerror}"
        problem = Problem(code="file-unreadable", where=".", message=message)
        return Listing(broken=(Broken(path=root, problems=(problem,)),))


def _look_into(directory: str) -> tuple[tuple[str, ...], bool]:
    """The directories worth entering, and whether this one is a root."""
    inside = []
    is_root = False
    try:
        with os.scandir(directory) as found:
            items = sorted(found, key=lambda item: item.name)
    except FileNotFoundError:
        return (), False
    except OSError:
        return (), True
    for item in items:
        if item.name == layout.HISTORY:
            is_root = True
        elif layout.is_hidden(item.name) or not item.is_dir(follow_symlinks=False):
            continue
        elif os.path.lexists(os.path.join(item.path, layout.META)):
            is_root = True
        else:
            inside.append(item.path)
    return tuple(inside), is_root
