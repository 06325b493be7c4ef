"""The nevers of the house that import-linter cannot see (its contracts stand in pyproject.toml)."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

import smartcash_format
from smartcash_format.spec import layout
from tests.processes import run_python

PACKAGE = Path(smartcash_format.__file__).parent
TORCH_FREE_ROOMS = ("errors", "spec", "disk", "store", "view")
PURE = ("spec", "store.query", "store.retention")
# A module past this is two modules.
LINES_MAX = 400
NO_ROOM = {"base", "common", "helpers", "misc", "types", "util", "utils"}
# How an entry of a directory appears or vanishes.
MOVES = {
    *("os.rename", "os.renames", "os.replace", "os.link", "os.symlink", "os.unlink", "os.remove"),
    *("os.rmdir", "os.removedirs", "shutil.rmtree", "shutil.move", "shutil.copytree"),
}
MOVING_METHODS = {"rename", "unlink", "rmdir", "symlink_to", "hardlink_to", "touch"}


def _tail(file: Path) -> str:
    """A module's name below the package: `spec.meta`, `cli` for its `__init__`."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


TREES = {_tail(file): ast.parse(file.read_text(encoding="utf-8")) for file in PACKAGE.rglob("*.py")}


def _in_room(module: str, room: str) -> bool:
    return module == room or module.startswith(f"{room}.")


@cache
def _calls(module: str) -> tuple[tuple[str, ast.Call], ...]:
    """Every call of a module, with what is called as it is written."""
    nodes = [node for node in ast.walk(TREES[module]) if isinstance(node, ast.Call)]
    return tuple((ast.unparse(node.func), node) for node in nodes)


def _loaded_after_importing(modules: list[str]) -> set[str]:
    """The top-level modules that a fresh process has after importing these."""
    names = [f"smartcash_format.{module}".rstrip(".") for module in modules]
    printed = run_python(
        f"import importlib, sys\nfor name in {names}: importlib.import_module(name)\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    return set(printed.split())


@pytest.mark.no_cover
@pytest.mark.torch
def test_every_module_can_be_imported() -> None:
    assert "torch" in _loaded_after_importing(sorted(TREES))


@pytest.mark.no_cover
def test_the_rooms_below_torch_and_the_command_load_neither_torch_nor_numpy() -> None:
    rooms = (*TORCH_FREE_ROOMS, "__main__", "cli.main")
    modules = sorted(module for module in TREES if any(_in_room(module, room) for room in rooms))
    loaded = _loaded_after_importing(modules)
    assert "pydantic" in loaded
    assert not loaded & {"torch", "numpy"}


def test_a_module_bears_the_name_of_a_question() -> None:
    assert not {module for module in TREES if NO_ROOM & set(module.split("."))}


def test_a_module_ends_in_time() -> None:
    ends = {module: tree.body[-1].end_lineno or 0 for module, tree in TREES.items() if tree.body}
    assert not {module for module, end in ends.items() if end > LINES_MAX}


def test_a_name_on_disk_is_spelled_once() -> None:
    names = {
        value for value in vars(layout).values() if isinstance(value, str) and "." in value.lstrip()
    } & {node.value for node in ast.walk(TREES["spec.layout"]) if isinstance(node, ast.Constant)}
    assert layout.META in names
    spelled = {
        (module, node.value)
        for module, tree in TREES.items()
        if module != "spec.layout"
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and node.value in names
    }
    assert not spelled


@pytest.mark.parametrize(
    "module", sorted(module for module in TREES if any(_in_room(module, room) for room in PURE))
)
def test_a_pure_module_opens_prints_and_asks_for_nothing(module: str) -> None:
    called = {name for name, _ in _calls(module)}
    assert not called & {"open", "print", "input"}
    methods = {name.rpartition(".")[2] for name in called if "." in name}
    assert not methods & {"now", "utcnow", "today"}
    assert not methods & {
        "exists",
        "iterdir",
        "is_dir",
        "is_file",
        "stat",
        "read_bytes",
        "read_text",
    }


@pytest.mark.parametrize("module", sorted(TREES))
def test_files_appear_and_vanish_only_in_the_room_disk(module: str) -> None:
    if any(_in_room(module, room) for room in ("disk", "testing")):
        return
    moved = {
        name
        for name, _ in _calls(module)
        if name in MOVES or ("." in name and name.rpartition(".")[2] in MOVING_METHODS)
    }
    assert not moved


def test_a_directory_is_renamed_by_publish_and_sweeping_and_removed_by_leftovers() -> None:
    modules = [module for module in TREES if not _in_room(module, "testing")]
    called = {module: {name for name, _ in _calls(module)} for module in modules}
    renames = {module for module, names in called.items() if "os.rename" in names}
    removes = {module for module, names in called.items() if "os.rmdir" in names}
    # Sweeping takes a leftover from its writer, and puts a protected checkpoint back.
    assert renames <= {"disk.publish", "disk.sweeping"}
    assert removes <= {"disk.leftovers"}


def test_a_file_of_a_checkpoint_is_linked_by_publish() -> None:
    modules = [module for module in TREES if not _in_room(module, "testing")]
    links = {module for module in modules if "os.link" in {name for name, _ in _calls(module)}}
    # The others link what is in no checkpoint: an old history, and a probe.
    assert links == {"disk.publish", "disk.notes", "disk.leftovers"}


@pytest.mark.parametrize("module", sorted(TREES))
def test_torch_reads_files_with_weights_only_and_nothing_else(module: str) -> None:
    for name, call in _calls(module):
        if name.endswith("torch.load") or name == "torch_load":
            (weights_only,) = [word.value for word in call.keywords if word.arg == "weights_only"]
            assert ast.unparse(weights_only) == "True"


def test_pickle_neither_writes_nor_reads() -> None:
    used = {
        ast.unparse(node)
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "pickle"
        # Runs in a process apart, with a find_class that imports nothing; others are opcodes.
        if module != "integrations.inert_pickle"
        or not (node.attr == "_Unpickler" or node.attr.isupper())
    }
    assert used <= {"pickle.PicklingError", "pickle.HIGHEST_PROTOCOL"}
