"""A stand-in of SmartCash's logger: it takes one finished string and nothing else."""

from __future__ import annotations


class SmartCashLogger:
    """Keeps what it was told; lazy arguments are a TypeError, as with SmartCash's own."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: list[tuple[str, str]] = []

    def debug(self, msg: str) -> None:
        self.lines.append(("debug", msg))

    def info(self, msg: str) -> None:
        self.lines.append(("info", msg))

    def warning(self, msg: str) -> None:
        self.lines.append(("warning", msg))

    def error(self, msg: str) -> None:
        self.lines.append(("error", msg))


def get_logger(name: str) -> SmartCashLogger:
    return SmartCashLogger(name)
