"""docs/cli.md says what the command does: every command and option, and what each prints.

Its commands are run on a small root; its JSON has the keys and types of what they print, its CSV
the columns.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import typing
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer

from smartcash_format.cli import exits, output
from smartcash_format.cli.main import app_of
from smartcash_format.disk.read import read_meta
from smartcash_format.spec import layout
from smartcash_format.spec.meta import encode_meta
from smartcash_format.store.checkpoint_store import CheckpointStore
from smartcash_format.testing.sample import write_sample
from tests.cli.conftest import Run

DOCUMENT = Path(__file__).parents[2] / "docs" / "cli.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")
ROOT = Path("runs/train/weights")
START = datetime(2026, 1, 31, 12, tzinfo=UTC)
_SECTION = re.compile(r"^## `([a-z-]+)`$", re.MULTILINE)
_COMMAND = re.compile(r"^```console\n\$ smartcash-format ([^\n]*)\n```$", re.MULTILINE)
_ANSWERED = re.compile(
    r"^```console\n\$ smartcash-format ([^\n]*)\n```\n\n```(json|csv)\n(.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_OPTION = re.compile(r"`(--[a-z-]+)")


def sections() -> dict[str, str]:
    """The text below each command's heading."""
    _, *parts = _SECTION.split(TEXT)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def sample_root() -> list[Path]:
    """Three checkpoints and their history, one broken directory, one old pickle."""
    paths = []
    store = CheckpointStore(ROOT)
    for epoch in (1, 2, 3):
        path = write_sample(ROOT, epoch=epoch, saved_at=START + timedelta(minutes=epoch))
        meta = read_meta(path).model_copy(
            update={
                "is_best": epoch == 2,
                "metrics": {"val_loss": 1 / epoch, "val_map": 0.2 * epoch},
                "backbone": "efficientnet_b4",
                "dataset": "roboflow",
                "tags": ["baseline"],
                "config": {"lr": 0.01 / epoch},
            }
        )
        (path / layout.META).write_bytes(encode_meta(meta))
        store.record_save(path, meta)
        paths.append(path)
    (ROOT / "epoch-0004-torn").mkdir()
    (ROOT / "epoch-0004-torn" / layout.META).write_text("{")
    (ROOT / "best.pth").write_bytes(b"")
    return paths


GROUP: Any = typer.main.get_command(app_of([]))


def options() -> dict[str, set[str]]:
    """The options of each command, as the parser has them."""
    return {
        name: {
            option
            for parameter in command.params
            for option in parameter.opts
            if option.startswith("--") and option != "--help"
        }
        for name, command in GROUP.commands.items()
    }


def formats() -> dict[str, list[str]]:
    """The choices of `--format` of each command that has it."""
    hints = {
        command.name or "": typing.get_type_hints(command.callback)
        for command in app_of([]).registered_commands
    }
    return {name: [*hint["form"]] for name, hint in hints.items() if "form" in hint}


def marks(line: str) -> list[pytest.MarkDecorator]:
    """What a command needs."""
    return [pytest.mark.torch] if line.startswith(("convert ", "export ")) else []


def shape(value: Any) -> Any:
    """Keys and types of a JSON value; what stands in a list is taken together."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        found: Any = None
        for item in value:
            found = together(found, shape(item))
        return [found]
    return None if value is None else type(value).__name__


def together(one: Any, other: Any) -> Any:
    """One shape of two in a list: null is like anything, and so are scalars of several types."""
    if one is None or other is None:
        return other if one is None else one
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        return {key: together(item, other[key]) for key, item in one.items()}
    if isinstance(one, list):
        return [together(one[0], other[0])]
    return one if one == other else None


def alike(one: Any, other: Any) -> bool:
    """Whether two shapes have the same keys and types everywhere."""
    if one is None or other is None:
        return True
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return alike(one[0], other[0])
    return bool(one == other)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the document's commands are run; each that removes has it for itself."""
    place = tmp_path_factory.mktemp("document")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        sample_root()
        if find_spec("torch"):
            import torch

            state = {"model_state_dict": {"w": torch.ones(3)}, "metrics": {"val_map": 0.5}}
            torch.save({**state, "epoch": 4}, "old.pth")
    return place


@pytest.fixture
def here(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(place, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def test_every_command_has_a_section_and_no_other() -> None:
    assert sections().keys() == options().keys()


@pytest.mark.parametrize("name", sorted(options()))
def test_a_section_names_every_option_of_its_command_and_no_other(name: str) -> None:
    assert set(_OPTION.findall(sections()[name])) == options()[name]


def test_the_options_of_all_commands_are_named() -> None:
    before, *_ = _SECTION.split(TEXT)
    for parameter in GROUP.params:
        assert all(option in before for option in parameter.opts)


def test_the_version_and_the_exit_codes_are_those_of_the_code() -> None:
    assert f"`version`, which is {output.JSON_VERSION}" in TEXT
    codes = [int(code) for code in re.findall(r"^\| ([0-9]+) \|", TEXT, re.MULTILINE)]
    assert codes == [
        exits.FINE, exits.FOUND, exits.USAGE, exits.UNREADABLE, exits.INTERRUPTED
    ]  # fmt: skip


@pytest.mark.parametrize("name", sorted(formats()))
def test_a_section_names_the_formats_of_its_command(name: str) -> None:
    assert f"`--format {'|'.join(formats()[name])}" in sections()[name].replace("\n", " ")


SHOWN = [pytest.param(line, id=line, marks=marks(line)) for line in _COMMAND.findall(TEXT)]
ANSWERED = [
    pytest.param(line, kind, answer, id=line, marks=marks(line))
    for line, kind, answer in _ANSWERED.findall(TEXT)
]


@pytest.mark.parametrize("line", SHOWN)
def test_a_command_that_the_document_shows_runs(run: Run, here: Path, line: str) -> None:
    name, *arguments = shlex.split(line)
    ran = run(name, *arguments)
    findings = name in ("diff", "validate", "doctor")
    assert ran.code == (exits.FOUND if findings else exits.FINE), ran.err
    assert ran.out


@pytest.mark.parametrize(("line", "kind", "answer"), ANSWERED)
def test_what_the_document_shows_is_what_is_printed(
    run: Run, here: Path, line: str, kind: str, answer: str
) -> None:
    printed = run(*shlex.split(line)).out
    if kind == "csv":
        assert printed.splitlines()[0] == answer.splitlines()[0]
        return
    found, told = json.loads(printed), json.loads(answer)
    assert (told["kind"], told["version"]) == (found["kind"], found["version"])
    if line.startswith("show "):
        assert found["meta"] == json.loads((here / found["path"] / layout.META).read_bytes())
        found["meta"] = {}
    assert alike(shape(found), shape(told))


def test_every_document_that_a_command_prints_is_in_the_document() -> None:
    answers = [answer for _, kind, answer in _ANSWERED.findall(TEXT) if kind == "json"]
    told = {json.loads(answer)["kind"] for answer in answers}
    written = set()
    for file in (DOCUMENT.parents[1] / "smartcash_format" / "cli").rglob("*.py"):
        written |= set(re.findall(r'write_json\(\s*"([a-z-]+)"', file.read_text(encoding="utf-8")))
    assert told == {f"smartcash-format/{kind}" for kind in written}
