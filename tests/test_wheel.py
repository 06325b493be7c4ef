"""What whoever installs the package gets."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from importlib.resources import files

import pytest

import smartcash_format
from tests.processes import CHECKOUT, run_python

CONTRACT = {
    path.name: path.read_bytes()
    for path in (CHECKOUT / "schemas").iterdir()
    if path.name == "FORMAT.md" or path.name.endswith(".schema.json")
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    directory = tmp_path_factory.mktemp("dist")
    run_python("-m", "hatchling", "build", "--target", "wheel", "--directory", str(directory))
    (path,) = directory.iterdir()
    assert path.name == f"smartcash_format-{smartcash_format.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(path) as opened:
        yield opened


def test_the_wheel_carries_the_contract_and_only_the_package(wheel: zipfile.ZipFile) -> None:
    inside = "smartcash_format/schemas/"
    shipped = {name for name in wheel.namelist() if name.startswith(inside)}
    assert {name.removeprefix(inside): wheel.read(name) for name in shipped} == CONTRACT
    tops = {name.partition("/")[0].partition("-")[0] for name in wheel.namelist()}
    assert tops == {"smartcash_format"}
    assert "smartcash_format/py.typed" in wheel.namelist()


def test_the_wheel_carries_what_a_report_is_made_of(wheel: zipfile.ZipFile) -> None:
    view = CHECKOUT / "smartcash_format" / "view"
    needed = {*view.glob("templates/*"), *view.glob("vendor/*")}
    assert len(needed) >= 9
    assert {str(path.relative_to(CHECKOUT)) for path in needed} <= set(wheel.namelist())


def test_a_checkout_has_the_contract_where_the_wheel_has_it() -> None:
    schemas = files("smartcash_format") / "schemas"
    assert {name: (schemas / name).read_bytes() for name in CONTRACT} == CONTRACT


def test_the_wheel_asks_for_torch_only_as_an_extra(wheel: zipfile.ZipFile) -> None:
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    required = [
        line.removeprefix("Requires-Dist: ")
        for line in wheel.read(name).decode().splitlines()
        if line.startswith("Requires-Dist: ")
    ]
    assert {line.split(">")[0] for line in required} >= {"pydantic", "safetensors", "torch"}
    assert all("extra == 'torch'" in line for line in required if line.startswith("torch"))
