"""The front door: what it offers, and that it costs nothing to stand in it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import smartcash_format
from tests.processes import run_python

SOURCE = Path(smartcash_format.__file__)


def _names_for_type_checkers() -> set[str]:
    """The names imported under `if TYPE_CHECKING:`."""
    (guarded,) = (node for node in ast.parse(SOURCE.read_text()).body if isinstance(node, ast.If))
    imports = (node for node in guarded.body if isinstance(node, ast.ImportFrom))
    return {alias.asname or alias.name for node in imports for alias in node.names}


def test_the_public_names_are_sorted_and_stand_once() -> None:
    assert smartcash_format.__all__ == sorted(set(smartcash_format.__all__))


def test_all_the_loader_and_the_type_checker_know_the_same_names() -> None:
    public = set(smartcash_format.__all__) - {"__version__"}
    assert public == set(smartcash_format._HOME)
    assert public == _names_for_type_checkers()


def _needs_torch(name: str) -> bool:
    room = smartcash_format._HOME.get(name, "").removeprefix("smartcash_format.").partition(".")[0]
    return room in {"torch_io", "manager", "integrations"}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.torch] if _needs_torch(name) else [])
        for name in smartcash_format.__all__
    ],
)
def test_every_public_name_resolves_and_is_kept(name: str) -> None:
    value = getattr(smartcash_format, name)
    assert vars(smartcash_format)[name] is value


def test_what_asks_without_loading_is_there_without_torch() -> None:
    names = [name for name in smartcash_format.__all__ if not _needs_torch(name)]
    asking = {"CheckpointStore", "diff", "find_roots", "read_meta", "search", "strip", "transfer"}
    policies = {"DropResumeState", "KeepBest", "KeepEvery", "KeepLast", "KeepTagged", "KeepWithin"}
    assert {*asking, *policies, "Plan", "Policy", "validate"} <= set(names)
    run_python(
        "import sys, smartcash_format as package\n"
        f"for name in {names}: getattr(package, name)\n"
        "assert not {'torch', 'numpy'} & sys.modules.keys()"
    )


def test_dir_names_everything_that_can_be_touched() -> None:
    assert set(smartcash_format.__all__) <= set(dir(smartcash_format))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"'smartcash_format' has no attribute 'Nothing'"):
        smartcash_format.Nothing  # noqa: B018


def test_importing_the_package_imports_none_of_its_dependencies() -> None:
    printed = run_python(
        "import sys, smartcash_format; print(*{name.partition('.')[0] for name in sys.modules})"
    )
    dependencies = {"blake3", "numpy", "pydantic", "rich", "safetensors", "torch", "typer", "yaml"}
    assert "smartcash_format" in printed.split()
    assert not dependencies & set(printed.split())


def test_without_torch_the_room_of_live_objects_says_the_pip_command() -> None:
    # None in sys.modules is how an import finds that there is no such module.
    printed = run_python(
        "import sys; sys.modules['torch'] = None\n"
        "try:\n    import smartcash_format.torch_io\n"
        "except ModuleNotFoundError as error:\n    print(error)"
    )
    assert printed == (
        "saving and loading live objects needs torch, which is not installed: "
        'pip install "smartcash-format[torch]"\n'
    )


def test_without_torch_a_manager_looks_and_says_the_pip_command_when_it_saves(
    tmp_path: Path,
) -> None:
    printed = run_python(
        "import sys; sys.modules['torch'] = None\n"
        "import smartcash_format as package\n"
        f"manager = package.CheckpointManager({str(tmp_path / 'root')!r})\n"
        "print(len(manager.list_checkpoints()), manager.find_best_checkpoint())\n"
        "calls = (lambda: manager.save_checkpoint({}, epoch=1), manager.load_checkpoint,\n"
        "    lambda: package.save_checkpoint('here', {}), lambda: package.preflight('here', {}))\n"
        "for call in calls:\n"
        "    try:\n        call()\n"
        "    except ModuleNotFoundError as error:\n        print(error)"
    )
    looked, *refused = printed.splitlines()
    assert looked == "0 None"
    assert len(refused) == 4
    assert all(line.endswith('pip install "smartcash-format[torch]"') for line in refused)


def test_the_module_runs_as_the_command() -> None:
    printed = run_python("-m", "smartcash_format", "--version")
    assert printed == f"smartcash-format {smartcash_format.__version__}\n"
