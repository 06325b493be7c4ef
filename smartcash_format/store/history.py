"""training_history.yaml: what happened in a root, appended to and read line by line.

It is never the truth about which checkpoints exist. A missing file is made anew from them; a torn
line is skipped; and a failed append is a sentence, never a failed save.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from smartcash_format.disk.notes import (
    NoteLine,
    append_note,
    comment_out,
    note_lines,
    read_note,
    replace_note,
    set_aside,
)
from smartcash_format.disk.strip import stripped_id
from smartcash_format.disk.whole_file import require_place
from smartcash_format.errors import CheckpointWriteError
from smartcash_format.spec import layout, limits
from smartcash_format.spec.displaying import Displayed
from smartcash_format.spec.documents import dump_json
from smartcash_format.spec.history import (
    BULLET,
    HistoryLine,
    encode_line,
    is_torn,
    parse_line,
    printable,
)
from smartcash_format.spec.spelling import format_time, number_to_json
from smartcash_format.store.entry import Entry

_FIRST_BYTES: Final = 4_096
# The metrics of all rows together: ten thousand saves of two hundred. A hostile history has a name
# of its own in every line.
_CELLS: Final = 2_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class History(Displayed):
    """The events of a root, oldest first.

    `skipped` lines could not be read, of which `torn` are no events of any version; `rebuilt` when
    there was no file of ours and the events were made from the checkpoints.
    """

    lines: tuple[HistoryLine, ...]
    skipped: int = 0
    torn: int = 0
    rebuilt: bool = False

    def __repr__(self) -> str:
        return f"History({len(self.lines)} events)"

    def unread(self) -> Iterator[str]:
        """A sentence for each kind of lines that could not be read, with what helps."""
        if self.torn:
            fix = "smartcash-format doctor ROOT --fix makes comments of them"
            yield f"{_lines(self.torn)} torn: {fix}"
        if unknown := self.skipped - self.torn:
            fix = "a newer smartcash-format may read them"
            yield f"{_lines(unknown)} unknown to this version: {fix}"

    def summary(self) -> dict[str, Any]:
        """total_runs, runs, best and last_resume, as JSON takes them."""
        runs = [_run(run_id, *lines) for run_id, lines in _by_run(self.lines).items()]
        resumes = [line for line in self.lines if line.event == "resume"]
        last = resumes[-1] if resumes else None
        return {
            "total_runs": len(runs),
            "runs": runs,
            "best": _best(line for line in self.lines if line.event == "save"),
            "last_resume": {
                "checkpoint": last.checkpoint if last else None,
                "timestamp": format_time(last.at) if last else None,
            },
        }

    def parents(self) -> dict[str, str | None]:
        """The ids of all checkpoints whose saves it tells of, and those of their parents.

        With those of what they may have been stripped to: a run may have resumed from that.
        """
        saves = [line for line in self.lines if line.event == "save"]
        told = {line.checkpoint_id: line.parent_id for line in saves if line.checkpoint_id}
        return {stripped_id(each): parent for each, parent in told.items()} | told

    def rows(self) -> list[dict[str, Any]]:
        """Every save as a flat dict, oldest first: `pandas.DataFrame(rows)` takes it as it is.

        A metric's key is `metrics.` and its name, as in the CSV of `ls`. Every row has the same
        keys, and what a save did not measure is None; where that would be millions, a
        row has its own alone.
        """
        names = {line.checkpoint_id: line.checkpoint for line in self.lines}
        saves = [line for line in self.lines if line.event == "save"]
        metrics = dict.fromkeys(metric for line in saves for metric in line.metrics)
        is_whole = len(saves) * len(metrics) <= _CELLS
        return [
            {
                "checkpoint": line.checkpoint,
                "run_id": line.run_id,
                "parent": names.get(line.parent_id) if line.parent_id else None,
                "saved_at": format_time(line.at),
                "epoch": line.epoch,
                "step": line.step,
                "is_best": bool(line.is_best),
                **{
                    f"metrics.{metric}": line.metrics.get(metric)
                    for metric in (metrics if is_whole else line.metrics)
                },
            }
            for line in saves
        ]


def _lines(count: int) -> str:
    return "1 line of the history is" if count == 1 else f"{count} lines of the history are"


def read_history(root: Path, entries: Iterable[Entry]) -> History:
    """The history of a root; made from its checkpoints where there is no file of ours.

    Raises OSError when the file is there and cannot be read.
    """
    path = root / layout.HISTORY
    try:
        if not _is_ours(read_note(path, _FIRST_BYTES)):
            return rebuilt_history(entries)
        data = read_note(path, limits.HISTORY_BYTES + 1, from_end=True)
    except FileNotFoundError:
        return rebuilt_history(entries)
    if len(data) > limits.HISTORY_BYTES:
        data = data[data.find(b"\n") + 1 :]  # a line that was cut by reading from the end
    lines, skipped, torn = [], 0, 0
    for raw in data[_last_lines(data) :].split(b"\n"):
        text = raw.decode("utf-8", "replace")
        if text.startswith("#") or not text.strip():
            continue
        line = parse_line(text)
        if line is None:
            skipped += 1
            torn += is_torn(raw, len(raw))
        else:
            lines.append(line)
    return History(lines=tuple(_once(lines)), skipped=skipped, torn=torn)


def _last_lines(data: bytes) -> int:
    """Where the last lines begin that a reader takes."""
    at = len(data)
    for _ in range(limits.HISTORY_LINES):
        at = data.rfind(b"\n", 0, max(0, at - 1))
        if at < 0:
            return 0
    return at + 1


def _once(lines: Iterable[HistoryLine]) -> Iterator[HistoryLine]:
    """Two writers that both find no file each make it anew: of a save told twice the first."""
    saved = set()
    for line in lines:
        if line.event == "save":
            if line.checkpoint_id in saved:
                continue
            saved.add(line.checkpoint_id)
        yield line


def rebuilt_history(entries: Iterable[Entry]) -> History:
    """The saves and resumes that the checkpoints themselves tell of."""
    ordered = sorted(entries, key=lambda entry: entry.order)
    # A stripped one stands in the place of its original; where both are there the original does.
    by_id = {entry.derived_from: entry for entry in ordered if entry.derived_from is not None}
    by_id |= {entry.checkpoint_id: entry for entry in ordered}
    lines = []
    for entry in ordered:
        parent = by_id.get(entry.parent_id or "")
        if parent is not None and parent.run_id != entry.run_id:
            lines.append(
                HistoryLine(
                    event="resume",
                    at=entry.saved_at,
                    run_id=entry.run_id,
                    checkpoint=parent.name,
                    checkpoint_id=parent.checkpoint_id,
                    epoch=parent.epoch,
                )
            )
        lines.append(HistoryLine.of_save(entry.name, entry))
    return History(lines=tuple(lines), rebuilt=True)


def append(root: Path, lines: Sequence[HistoryLine], entries: Iterable[Entry]) -> tuple[str, ...]:
    """Appends events to a root's history with one write; sentences about what was not as usual.

    A file that is not ours is moved aside first; a missing one starts with what `entries` tell.
    """
    path = root / layout.HISTORY
    try:
        notes = _make_way(path)
        known = {line.checkpoint_id for line in lines if line.event == "save"}
        older = (
            ()
            if path.exists()
            else rebuilt_history(
                entry for entry in entries if entry.checkpoint_id not in known
            ).lines
        )
        append_note(path, "".join(map(encode_line, (*older, *lines))).encode("utf-8"))
    except OSError as error:
        return (f"{layout.HISTORY} was not written: {error.strerror or error}",)
    return notes


def torn_lines(root: Path) -> list[NoteLine]:
    """The lines of a root's history that are no event of any version; none where it is not ours.

    An event of a kind that only a newer version knows is none of them. Raises OSError when the file
    is there and cannot be read.
    """
    path = root / layout.HISTORY
    try:
        if not _is_ours(read_note(path, _FIRST_BYTES)):
            return []
        lines = note_lines(path, limits.HISTORY_LINE_BYTES + 1)
        return [line for line in lines if is_torn(line.head, line.size_bytes)]
    except FileNotFoundError:
        return []


def mend_history(root: Path) -> int:
    """Makes comments of the torn lines of a root's history, in place; how many those were."""
    torn = torn_lines(root)
    return comment_out(root / layout.HISTORY, torn) if torn else 0


def _make_way(path: Path) -> tuple[str, ...]:
    try:
        if _is_ours(read_note(path, _FIRST_BYTES)):
            return ()
        aside = path.with_name(layout.OLD_HISTORY)
        number = 2
        while os.path.lexists(aside):
            aside = path.with_name(f"{Path(layout.OLD_HISTORY).stem}.{number}.yaml")
            number += 1
        set_aside(path, aside)
    except FileNotFoundError:
        return ()  # none, or another process has moved it
    return (f"{path.name} was not written by this package; it is {aside.name} now",)


def _is_ours(data: bytes) -> bool:
    """Whether a history begins as ours do; an empty one may become ours."""
    lines = (line for line in data.split(b"\n") if line.strip() and not line.startswith(b"#"))
    first = next(lines, None)
    return first is None or first.startswith(f"{BULLET}{{".encode())


def export_history(path: Path, summary: Mapping[str, Any]) -> Path:
    """Writes the summary as strict JSON, aside first and then renamed; the path.

    Raises CheckpointWriteError when the system refuses, or where it would break a checkpoint or
    replace a root's history.
    """
    require_place(path)
    try:
        replace_note(path, dump_json(dict(summary), indent=2))
    except OSError as error:
        raise CheckpointWriteError(
            f"{path} was not written: {error.strerror or error}; pass a path in a directory "
            "that exists and can be written",
            path=path,
            errno=error.errno,
        ) from error
    return path


def describe_best(best: Entry) -> dict[str, Any]:
    """The best checkpoint as a summary has it."""
    return _described(printable(best.name), best.epoch, best.metrics)


# What a run resumed from before its first save, and its saves.
_Life = tuple[list[HistoryLine], list[HistoryLine]]


def _by_run(lines: Iterable[HistoryLine]) -> dict[str, _Life]:
    resumed: dict[str, list[HistoryLine]] = {}
    runs: dict[str, _Life] = {}
    for line in lines:
        run = line.run_id
        if line.event == "save":
            runs.setdefault(run, (resumed.get(run, []), []))[1].append(line)
        elif line.event == "resume" and run not in runs:
            resumed.setdefault(run, []).append(line)
    return runs


def _run(
    run_id: str, resumed: Sequence[HistoryLine], saves: Sequence[HistoryLine]
) -> dict[str, Any]:
    epochs = [line.epoch for line in saves if line.epoch is not None]
    return {
        "run_id": run_id,
        "started_at": format_time(min(line.at for line in (*resumed, *saves))),
        "ended_at": format_time(max(line.at for line in saves)),
        # Who resumes again before the first save trains on from the last one.
        "resumed_from": resumed[-1].checkpoint if resumed else None,
        "first_epoch": epochs[0] if epochs else None,
        "last_epoch": epochs[-1] if epochs else None,
        "saves": len(saves),
        "best": _best(saves),
    }


def _best(saves: Iterable[HistoryLine]) -> dict[str, Any] | None:
    """The last save that was flagged best."""
    flagged = [line for line in saves if line.is_best]
    if not flagged:
        return None
    return _described(flagged[-1].checkpoint, flagged[-1].epoch, flagged[-1].metrics)


def _described(
    name: str | None, epoch: int | None, metrics: Mapping[str, int | float]
) -> dict[str, Any]:
    return {
        "checkpoint": name,
        "epoch": epoch,
        "metrics": {metric: number_to_json(value) for metric, value in metrics.items()},
    }
