"""What a checkpoint and the live objects have in common: found before anything is touched."""

from __future__ import annotations

from dataclasses import dataclass

from smartcash_format.errors import PROBLEMS_SHOWN
from smartcash_format.spec.problems import Problem

# A report that is printed should fit on a screen; the attributes always hold everything.
NAMES_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """A tensor that is stored in another dtype than the live one has; it is cast as torch does."""

    name: str
    stored: str
    live: str

    def __str__(self) -> str:
        return f"{self.name} ({self.stored} to {self.live})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reshaped:
    """A tensor whose stored shape is not the live one's."""

    name: str
    stored: tuple[int, ...]
    live: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} ({list(self.stored)} in the checkpoint, {list(self.live)} here)"


@dataclass(frozen=True, slots=True, kw_only=True)
class FitReport:
    """How a checkpoint fits the live objects, and what is, or would be, restored.

    `restored` and `absent` name components: model, optimizer, scheduler, rng, names in extra.
    Tensors of a weight set other than the model are named `<set>:<name>`. `problems` is what a
    load raises StateMismatchError for, `hint` their likely cause; with strict=False what does not
    fit is listed and is no problem. `notes` are sentences about everything else worth knowing.
    """

    restored: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    cast: tuple[Cast, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[Reshaped, ...] = ()
    notes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    hint: str = ""

    @property
    def fits(self) -> bool:
        """Whether a load would go through."""
        return not self.problems

    def __str__(self) -> str:
        lines = [f"restored: {', '.join(self.restored) or 'nothing'}"]
        lines += [
            f"{label}: {_some(values)}"
            for label, values in (
                ("absent", self.absent),
                ("cast", self.cast),
                ("missing", self.missing),
                ("unexpected", self.unexpected),
                ("mismatched", self.mismatched),
            )
            if values
        ]
        shown = self.problems[:PROBLEMS_SHOWN]
        lines += [f"problem: {p.where}: {p.message} [{p.code}]" for p in shown]
        if len(self.problems) > len(shown):
            more = len(self.problems) - len(shown)
            lines.append(f"... and {more} more in the attribute `problems`")
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join([*lines, self.hint] if self.hint else lines)


def _some(values: tuple[object, ...]) -> str:
    shown = ", ".join(str(value) for value in values[:NAMES_SHOWN])
    more = len(values) - NAMES_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown
