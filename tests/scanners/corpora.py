"""The published corpora of the scanners, as far as their packages have them or tell of them.

Nothing of theirs is kept here: sources are fetched by name, in the version that is installed.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from tests.scanners.hostile import reduced, stacked


def source_of(package: str, directory: Path) -> Path:
    """The unpacked source of an installed package. Raises CalledProcessError without a network."""
    asked = f"{package}=={version(package)}"
    options = ("--quiet", "--no-deps", "--no-binary", ":all:", "--dest", str(directory))
    subprocess.run([sys.executable, "-m", "pip", "download", *options, asked], check=True)
    name = f"{package}-{version(package)}"
    with tarfile.open(directory / f"{name}.tar.gz") as archive:
        archive.extractall(directory, filter="data")
    return directory / name


def recorded(source: Path, directory: Path) -> None:
    """Every file that hayward's own tests let it scan, in `directory`."""
    place = {"PYTHONPATH": os.pathsep.join((str(Path(__file__).parent), "."))}
    environment = os.environ | place | {"RECORD_TO": str(directory)}
    options = ("-q", "-n", "2", "-p", "recorder", "-p", "no:cacheprovider", "tests")
    # Some of its tests want what is not installed here; what they scanned before is enough.
    subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        cwd=source, env=environment, stdout=subprocess.DEVNULL, check=False,
    )  # fmt: skip


def named_by_picklescan(source: Path) -> Iterator[tuple[str, bytes]]:
    """A pickle that calls each name which picklescan knows, or which its corpus has.

    The files of its corpus are not in its package; what each of them calls stands in its tests.
    """
    import picklescan.scanner

    names = {
        (module, "anything" if known == "*" else name)
        for module, known in picklescan.scanner._unsafe_globals.items()
        for name in (("*",) if known == "*" else known)
    }
    tests = ast.parse((source / "tests" / "test_scanner.py").read_text("utf-8"))
    for node in ast.walk(tests):
        match node:
            case ast.Call(
                func=ast.Name("Global"),
                args=[ast.Constant(module), ast.Constant(name), ast.Attribute(attr=level)],
            ) if level != "Innocuous":
                names.add((module, name))
    for module, name in sorted(names):
        yield f"reduce-{module}.{name}.pkl", reduced(f"{module} {name}")
        yield f"stack-{module}.{name}.pkl", stacked(f"{module} {name}")
