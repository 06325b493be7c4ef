"""What a manager says while it works: one finished string a line, and never the cause of a loss."""

from __future__ import annotations

import logging
from typing import Protocol


class Logger(Protocol):
    """What a manager needs of a logger; logging.Logger has it, SmartCash's own too."""

    def debug(self, msg: str, /) -> object: ...

    def info(self, msg: str, /) -> object: ...

    def warning(self, msg: str, /) -> object: ...

    def error(self, msg: str, /) -> object: ...


class Log:
    """The user's logger, given finished strings; one that raises is reported once and goes on."""

    def __init__(self, logger: Logger | None) -> None:
        lacking = [
            name
            for name in ("debug", "info", "warning", "error")
            if logger is not None and not callable(getattr(logger, name, None))
        ]
        if lacking:
            raise TypeError(
                f"logger is {type(logger).__name__}, which has no {', '.join(lacking)}: it is an "
                "object with debug, info, warning and error, such as logging.getLogger(...)"
            )
        self._own = logging.getLogger("smartcash_format")
        self._logger: Logger = self._own if logger is None else logger
        self._complained = False

    def debug(self, message: str) -> None:
        self._say("debug", message)

    def info(self, message: str) -> None:
        self._say("info", message)

    def warning(self, message: str) -> None:
        self._say("warning", message)

    def error(self, message: str) -> None:
        self._say("error", message)

    def _say(self, level: str, message: str) -> None:
        # A logger is the user's code, run in the middle of a save: whatever it raises, the
        # checkpoint matters more. It is said once, on our own logger, with the traceback.
        try:
            getattr(self._logger, level)(message)
        except Exception:  # noqa: BLE001
            if not self._complained:
                self._complained = True
                self._own.warning("the logger given to CheckpointManager raised", exc_info=True)


def size(size_bytes: int) -> str:
    """A size for a sentence, in units of 1,000."""
    value = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
