from __future__ import annotations

import pytest

from smartcash_format.spec.version import (
    FORMAT,
    FORMAT_VERSION,
    TENSORS_FORMAT,
    Version,
    gate,
)


def refused(document: object) -> tuple[str, str]:
    version, problem = gate(document, where="meta.json")
    assert version is None
    assert problem is not None
    return problem.code, problem.message


def test_a_document_of_this_version_passes_whatever_else_it_holds() -> None:
    document = {"format": FORMAT, "format_version": FORMAT_VERSION, "epoch": "nonsense"}
    assert gate(document, where="meta.json") == (Version(1, 0), None)


def test_a_newer_minor_passes_and_says_that_it_is_newer() -> None:
    version, problem = gate({"format": FORMAT, "format_version": "1.12"}, where="meta.json")
    assert problem is None
    assert version == Version(1, 12)
    assert version.is_newer_minor
    assert not Version(1, 0).is_newer_minor


def test_a_newer_major_is_refused_by_its_version_and_by_nothing_else() -> None:
    version, problem = gate({"format": FORMAT, "format_version": "2.0"}, where="meta.json")
    assert version is None
    assert problem is not None
    assert problem.code == "newer-version"
    assert problem.message == "format version 2.0 is newer than this reader (1.x)"
    assert problem.fix == "upgrade smartcash-format"


@pytest.mark.parametrize("text", ["1", "1.0.0", "01.0", "1.00", "v1.0", "", "1.0\n", "0.9", "-1.0"])
def test_a_version_that_never_was_is_refused_as_a_wrong_field(text: str) -> None:
    assert refused({"format": FORMAT, "format_version": text})[0] == "field-invalid"


@pytest.mark.parametrize("found", [1.0, 1, None, ["1.0"], True])
def test_a_version_that_is_no_string_is_refused(found: object) -> None:
    assert refused({"format": FORMAT, "format_version": found})[0] == "field-invalid"


@pytest.mark.parametrize("document", [{}, {"format": "other"}, {"format_version": "1.0"}])
def test_a_document_of_something_else_is_refused_as_foreign(document: object) -> None:
    assert refused(document)[0] == "foreign-format"


def test_the_manifest_is_told_apart_from_meta() -> None:
    document = {"format": TENSORS_FORMAT, "format_version": "1.0"}
    assert refused(document)[0] == "foreign-format"
    assert gate(document, where="tensors.json", format=TENSORS_FORMAT)[1] is None


@pytest.mark.parametrize("document", [[], "1.0", None, 1])
def test_a_document_that_is_no_object_is_refused(document: object) -> None:
    assert refused(document) == ("field-invalid", "is not a JSON object")
