"""Without a network what is published is not tried: that fails, or is skipped where it is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.real import packages


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "_archive", lambda requirement: "no answer")


def test_what_cannot_be_fetched_has_not_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(packages.OFFLINE, raising=False)
    with pytest.raises(pytest.fail.Exception, match=f"no answer; {packages.OFFLINE}=1 skips"):
        packages.files_of("some-package==1.0", "some/", tmp_path)


def test_who_knows_that_there_is_no_network_gets_a_skip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(packages.OFFLINE, "1")
    with pytest.raises(pytest.skip.Exception, match=r"some-package==1\.0 could not be fetched"):
        packages.files_of("some-package==1.0", "some/", tmp_path)
