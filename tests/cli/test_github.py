"""What GitHub makes of a validation: annotations, lines of the log, the summary of the step."""

from __future__ import annotations

from pathlib import Path

import pytest

from smartcash_format.cli import ci
from tests.cli.conftest import Run
from tests.store.checkpoints import write_checkpoint

# What GitHub takes of a step before it takes nothing.
LIMIT = 1024 * 1024


@pytest.fixture
def summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    return tmp_path / "summary.md"


def test_a_line_of_the_log_says_of_which_checkpoint_it_is(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, summary: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for number in (1, 2):
        write_checkpoint(Path("release"), number, name=f"e{number}")
    asked = ("--depth", "meta", "--require", "epoch>=2", "--format", "github")
    bad, good = run("validate", "release", *asked).out.splitlines()
    place, _, said = bad.partition(",title=smartcash-format::")
    assert place == "::error file=release/e1/meta.json"
    assert said == "release/e1: epoch>=2 does not hold: it is 1"
    assert good == "ok: release/e2"


@pytest.mark.parametrize(
    ("place", "given", "expected"),
    [
        ("repository", "release/e1", "release/e1"),
        ("repository/release", "e1", "release/e1"),
        ("repository/release", "{}/repository/release/e1", "release/e1"),
        ("repository/release", "../..e1", "..e1"),
        ("repository", "../repository-2/e1", "../repository-2/e1"),
        ("elsewhere", "../other/e1", "../other/e1"),
    ],
)
def test_an_annotation_is_at_the_file_as_the_repository_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, given: str, expected: str
) -> None:
    (tmp_path / place).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / place)
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path / "repository"))
    path = given.format(tmp_path)
    (line,) = ci.github_lines([(path, ["torn"])])
    assert line == f"::error file={expected}/meta.json,title=smartcash-format::{path}: torn"


def read_by_the_runner(line: str) -> tuple[dict[str, str], str]:
    """The properties and the message of a workflow command, by the rules of GitHub's runner."""
    head, _, data = line.removeprefix("::error ").partition("::")
    properties = dict(each.split("=", 1) for each in head.split(","))
    for sign, escape in ((":", "%3A"), (",", "%2C"), *DATA):
        properties = {name: text.replace(escape, sign) for name, text in properties.items()}
    for sign, escape in DATA:
        data = data.replace(escape, sign)
    return properties, data


# In this order: what was escaped first is read last.
DATA = (("\r", "%0D"), ("\n", "%0A"), ("%", "%25"))


@pytest.mark.parametrize("name", ["a,title=x", "a:b", "50%", "%0A::error::x", "%253A", "a=b::c"])
def test_signs_of_the_runner_in_a_name_arrive_as_they_are(name: str) -> None:
    (line,) = ci.github_lines([(name, [f"torn {name}"])])
    properties, said = read_by_the_runner(line)
    assert properties == {"file": f"{name}/meta.json", "title": "smartcash-format"}
    assert said == f"{name}: torn {name}"


def test_a_summary_begins_with_what_does_not_pass(summary: Path) -> None:
    ci.step_summary([("a", []), ("b", ["torn"]), ("c", []), ("d", ["gone"])])
    text = summary.read_text()
    assert sorted("abcd", key=lambda name: text.index(f"<code>{name}</code>")) == [*"bdac"]


def test_a_summary_stays_below_the_size_from_which_github_shows_none_of_it(summary: Path) -> None:
    summary.write_text("x" * 500_000)
    cases: list[ci.Case] = [(f"ü{number}" * 20, []) for number in range(9_000)]
    ci.step_summary([*cases, ("last", ["torn"])])
    text = summary.read_text(encoding="utf-8")
    assert LIMIT - 2_000 < len(text.encode()) <= LIMIT
    rows = text.count("<tr>") - 2
    assert f"<tr><td>{9_001 - rows} more</td><td>in the log</td></tr>\n</table>\n" in text
    assert "<code>last</code>" in text
