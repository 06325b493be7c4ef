from __future__ import annotations

import inspect
import re

from smartcash_format.spec import limits

SOURCE = inspect.getsource(limits)


def test_every_limit_has_a_reason_above_it() -> None:
    lines = SOURCE.splitlines()
    reasoned = False
    for line in lines:
        is_limit = re.match(r"[A-Z_]+: Final = ", line) is not None
        assert reasoned or not is_limit, line
        reasoned = line.startswith("#") or (reasoned and is_limit)


def test_the_config_and_the_notes_leave_room_in_a_meta() -> None:
    assert limits.CONFIG_BYTES + limits.NOTES_BYTES < limits.META_BYTES


def test_the_most_tensors_fit_into_the_manifest_and_the_header() -> None:
    assert limits.TENSORS * 250 < limits.TENSORS_BYTES
    assert limits.TENSORS * 160 < limits.HEADER_BYTES
    assert limits.TENSORS * 12 < limits.JSON_VALUES
