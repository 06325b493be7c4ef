"""Findings in the forms that CI systems read: JUnit XML, GitHub annotations and step summary.

Foreign text never becomes markup: it is made harmless first, then escaped for the target.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from smartcash_format.view import words

# GitHub takes 1 MiB of a step, else nothing of it; the rest is for the frame of the table.
_SUMMARY_BYTES: Final = 1024 * 1024 - 1_000

Case = tuple[str, Sequence[str]]
"""A checkpoint's path and its findings, none when it passed."""


def junit_xml(cases: Sequence[Case]) -> str:
    """A JUnit report: a test case a checkpoint."""
    failures = sum(1 for _, findings in cases if findings)
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<testsuite name="smartcash-format validate" tests="{len(cases)}" failures="{failures}">',
    ]
    for path, findings in cases:
        name = quoteattr(_shown(path))
        if not findings:
            lines.append(f'  <testcase classname="checkpoint" name={name}/>')
            continue
        text = "\n".join(_shown(line) for line in findings)
        first = quoteattr(_shown(findings[0]))
        lines.append(f'  <testcase classname="checkpoint" name={name}>')
        lines.append(f"    <failure message={first}>{escape(text)}</failure>")
        lines.append("  </testcase>")
    return "\n".join([*lines, "</testsuite>"])


def github_lines(cases: Iterable[Case]) -> Iterator[str]:
    """A workflow command for each finding: GitHub shows the first ten of a step as annotations.

    The log shows all of them, and of each only what is said: so that begins with the path.
    """
    for path, findings in cases:
        where = _property(f"{_in_workspace(path)}/meta.json")
        for line in findings:
            said = _data(_shown(f"{path}: {line}"))
            yield f"::error file={where},title=smartcash-format::{said}"
        if not findings:
            # The runner obeys `::` where a line begins, and `##[` anywhere in it.
            yield f"ok: {_shown(path)}".replace("##[", "#\\x23[")


def step_summary(cases: Sequence[Case]) -> None:
    """Appends a table to the file that GitHub names in the environment; nothing elsewhere.

    Those with findings come first; what there is no room for is counted.
    """
    target = os.environ.get("GITHUB_STEP_SUMMARY")
    if not target:
        return
    with Path(target).open("a", encoding="utf-8") as summary:
        room = _SUMMARY_BYTES - summary.tell()
        rows = ["<tr><th>checkpoint</th><th>findings</th></tr>"]
        for number, (path, findings) in enumerate(sorted(cases, key=lambda case: not case[1])):
            told = "<br>".join(_literal(line) for line in findings) or "ok"
            row = f"<tr><td>{_literal(path)}</td><td>{told}</td></tr>"
            room -= len(row.encode()) + 1
            if room < 0:
                rows.append(f"<tr><td>{len(cases) - number} more</td><td>in the log</td></tr>")
                break
            rows.append(row)
        # Blank lines around it: it is a block of HTML, and no Markdown is looked for within.
        summary.write("\n<table>\n" + "\n".join(rows) + "\n</table>\n\n")


def _in_workspace(path: str) -> str:
    """A path as GitHub looks for it: from the repository, wherever the step works."""
    workspace = os.environ.get("GITHUB_WORKSPACE")
    if not workspace:
        return path
    try:
        return Path(os.path.abspath(path)).relative_to(os.path.abspath(workspace)).as_posix()
    except ValueError:  # it lies elsewhere
        return path


def _shown(text: str) -> str:
    return words.harmless(text, None)


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(_shown(text)).replace(":", "%3A").replace(",", "%2C")


def _literal(text: str) -> str:
    """Foreign text as code: no markup, and no address, person or issue in it becomes a link."""
    return f"<code>{escape(_shown(text))}</code>"
