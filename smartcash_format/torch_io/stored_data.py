"""The inert data of a torch file as comparisons see it: tagged forms stand for what they become."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from smartcash_format.spec.keys import MAPPINGS, TYPE

_CONTAINERS: Final = frozenset({list, tuple, dict})


@dataclass(frozen=True, slots=True)
class StoredForm:
    """A value that is stored in a tagged form: its type, and shape and dtype where it has them."""

    kind: str
    shape: tuple[int, ...] | None = None
    dtype: str | None = None


def readable(form: Any) -> Any:
    """The same data with a StoredForm, or a plain mapping, in place of each tagged form."""
    return _Reading().value(form)


class _Reading:
    """One walk: what stands in two places is looked at once, so that sharing costs nothing."""

    def __init__(self) -> None:
        self._done: dict[int, Any] = {}

    def value(self, form: Any) -> Any:
        # By exact type: what stands for a tensor is a tuple as well.
        if type(form) not in _CONTAINERS:
            return form
        if id(form) not in self._done:
            self._done[id(form)] = self._container(form)
        return self._done[id(form)]

    def _container(self, form: Any) -> Any:
        if type(form) is not dict:
            return type(form)(self.value(item) for item in form)
        if TYPE in form:
            return self._tagged(form)
        return {key: self.value(item) for key, item in form.items()}

    def _tagged(self, form: Mapping[Any, Any]) -> Any:
        kind, items = str(form[TYPE])[:80], form.get("items")
        if kind in MAPPINGS and isinstance(items, list) and all(map(_is_pair, items)):
            return {_key(key): self.value(item) for key, item in items}
        if kind == "parameter":
            return self.value(form.get("data"))
        if kind == "numpy.generic":
            return StoredForm(kind, (), str(form.get("dtype")))
        shape = form.get("shape")
        if isinstance(shape, list | tuple) and all(type(size) is int for size in shape):
            return StoredForm(kind, tuple(shape), str(form.get("dtype")))
        return StoredForm(kind)


def _is_pair(item: object) -> bool:
    return isinstance(item, tuple) and len(item) == 2


def _key(key: Any) -> Any:
    # A key that is itself a form is one that no name is like.
    return key if isinstance(key, str | int | float | bool | None) else StoredForm(repr(key)[:80])
