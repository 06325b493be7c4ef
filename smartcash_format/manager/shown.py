"""Plain answers that notebooks show as what they were made from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from smartcash_format.spec.displaying import Displayed


class Shown(dict[str, Any]):
    """A dict like any other, but for its HTML: that of the value which it tells of."""

    def __init__(self, values: Mapping[str, Any], of: Displayed) -> None:
        super().__init__(values)
        self._of = of

    def __reduce__(self) -> tuple[type, tuple[dict[str, Any]]]:
        # A copy is for other programs: a plain dict.
        return dict, (dict(self),)

    def _repr_html_(self) -> str | None:
        return self._of._repr_html_()
