"""The time of day at which a store looks."""

from __future__ import annotations

from datetime import timedelta

import pytest

from smartcash_format.store import checkpoint_store
from tests.store.checkpoints import START


@pytest.fixture
def noon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_store, "_now", lambda: START + timedelta(hours=1))
