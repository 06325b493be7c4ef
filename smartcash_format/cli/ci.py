"""Findings in the forms that CI systems read: JUnit XML, GitHub annotations and step summary.

Foreign text never becomes markup: it is made harmless first, then escaped for the target.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from smartcash_format.view import words

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
        name = quoteattr(words.harmless(path))
        if not findings:
            lines.append(f'  <testcase classname="checkpoint" name={name}/>')
            continue
        text = "\n".join(words.harmless(line) for line in findings)
        first = quoteattr(words.harmless(findings[0]))
        lines.append(f'  <testcase classname="checkpoint" name={name}>')
        lines.append(f"    <failure message={first}>{escape(text)}</failure>")
        lines.append("  </testcase>")
    return "\n".join([*lines, "</testsuite>"])


def github_lines(cases: Iterable[Case]) -> Iterator[str]:
    """A workflow command for each finding: GitHub shows it as an annotation."""
    for path, findings in cases:
        where = _property(f"{path}/meta.json")
        for line in findings:
            yield f"::error file={where},title=smartcash-format::{_data(words.harmless(line))}"
        if not findings:
            yield f"{words.harmless(path)}: ok"


def step_summary(cases: Sequence[Case]) -> None:
    """Appends a table to the file that GitHub names in the environment; nothing elsewhere."""
    target = os.environ.get("GITHUB_STEP_SUMMARY")
    if not target:
        return
    rows = ["| checkpoint | findings |", "|---|---|"]
    for path, findings in cases:
        told = "<br>".join(_markdown(line) for line in findings) or "ok"
        rows.append(f"| {_markdown(path)} | {told} |")
    with Path(target).open("a", encoding="utf-8") as summary:
        summary.write("\n".join(rows) + "\n")


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(words.harmless(text)).replace(":", "%3A").replace(",", "%2C")


def _markdown(text: str) -> str:
    """Text for a cell of a Markdown table: nothing in it is markup, a link or a cell's end."""
    safe = escape(words.harmless(text), {"|": "&#124;", "`": "&#96;", "[": "&#91;", "]": "&#93;"})
    return safe.replace("*", "&#42;").replace("_", "&#95;").replace("\n", " ")
