"""What foreign metadata holds is shown and never obeyed: by every command, in every format."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from smartcash_format.cli.main import app_of
from smartcash_format.spec import layout
from smartcash_format.spec.history import HistoryLine, encode_line
from smartcash_format.store.checkpoint_store import CheckpointStore
from smartcash_format.view.words import harmless
from tests.cli.conftest import Run
from tests.cli.test_document import formats
from tests.store.checkpoints import RUN, START, identifier, write_checkpoint, write_weighed

# Clears the screen, renames the window, turns the text around, rings, ends a line.
EVIL = "\x1b[2J\x1b]0;x\x07\u202e\x9b31m\u2028\r"
# What GitHub's runner obeys at the start of a line, and what it obeys anywhere in one.
STOP = "::stop-commands::x"
LEGACY = "##[add-mask]x"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Checkpoints whose texts, names and history are hostile; one of them is whole but holes."""
    root = tmp_path / "root"
    for number, (name, norm) in enumerate({f"a{EVIL}": 1.0, f"b{EVIL}": 2.0}.items(), start=1):
        path = write_weighed(
            root,
            number,
            {f"blocks.0.w\u202e{number}": norm, "stem\u202e": norm},
            name=name,
            is_best=True,
            metrics={EVIL: number / 10},
            backbone=EVIL,
            dataset=EVIL,
            tags=[EVIL],
            config={EVIL: [EVIL, number]},
        )
        (path / f"left{EVIL}").write_bytes(b"")
    (root / f"torn{EVIL}").mkdir()
    (root / f"torn{EVIL}" / layout.META).write_text('{"\\u001b[2J')
    (root / f"old{EVIL}.pth").write_bytes(b"")
    store = CheckpointStore(root)
    for entry in reversed(store.list()):
        store.record_save(entry.path, entry.meta)
    with (root / layout.HISTORY).open("a", encoding="utf-8") as history:
        for number, name in enumerate((EVIL, "../../etc", "/etc", "..", ".pins", "a/b"), start=9):
            line = HistoryLine(
                event="save", at=START, run_id=RUN, checkpoint=name, epoch=1,
                checkpoint_id=identifier(number),
            )  # fmt: skip
            history.write(encode_line(line))
        history.write("- {torn \x1b[2J\n")
    return root


# What each command is asked; "A", "B" and "ROOT" stand for paths.
ASKED = {
    "ls": ["ROOT"],
    "show": ["A"],
    "tensors": ["A"],
    "best": ["ROOT"],
    "validate": ["ROOT", "nowhere\x1b[2J"],
    "diff": ["A", "B"],
    "prune": ["ROOT", "--keep-last", "1"],
    "convert": ["ROOT", "-o", "new\x1b[2J"],
    "export": ["A", "-o", "out\x1b[2J"],
    "share": ["A", "-o", "public\x1b[2J"],
    "receive": ["A", "-o", "received\x1b[2J"],
    "sign": ["A"],
    "verify": ["A", "--key", "key\x1b[2J"],
    "history": ["ROOT"],
    "report": ["ROOT", "-o", "report\x1b[2J.html"],
    "doctor": ["ROOT"],
    "storage-test": ["A"],
    "schema": ["none\x1b[2J"],
}
# A path is printed for programs byte by byte, as the system spells it. A history gives no odd one,
# and nothing is converted.
RAW = {(name, "paths") for name in ASKED if name not in ("history", "convert")}
ALL = [
    pytest.param(name, form, marks=[pytest.mark.torch] if name in ("convert", "export") else [])
    for name in ASKED
    for form in formats().get(name, [""])
    if (name, form) not in RAW
]


def test_every_command_is_asked() -> None:
    assert ASKED.keys() == {command.name for command in app_of([]).registered_commands}


def obeyed(text: str) -> set[str]:
    """The characters of an output that a terminal would obey or that turn a text around."""
    return {
        character
        for character in text
        if character != "\n" and unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp", "Cs")
    }


@pytest.mark.attack(
    "move",
    "escapes, marks of direction and line breaks in every text of a checkpoint",
    "shown as text by every command in every form",
)
@pytest.mark.parametrize(("name", "form"), ALL)
def test_no_text_of_others_is_obeyed(
    run: Run, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, form: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary"))
    places = {"ROOT": str(root), "A": str(root / f"a{EVIL}"), "B": str(root / f"b{EVIL}")}
    arguments = [places.get(argument, argument) for argument in ASKED[name]]
    ran = run(name, *arguments, *(["--format", form] if form else []))
    assert ran.out or ran.err
    assert not obeyed(ran.out)
    assert not obeyed(ran.err)
    if form == "github":
        assert not obeyed((tmp_path / "summary").read_text(encoding="utf-8"))


@pytest.mark.parametrize("more", [["--tree"], ["--signed-by", "key\x1b[2J"]])
def test_options_that_show_more_obey_no_more(run: Run, root: Path, more: list[str]) -> None:
    name = "tensors" if more == ["--tree"] else "validate"
    ran = run(name, root / f"a{EVIL}", *more)
    assert not obeyed(ran.out + ran.err)


def test_a_history_of_others_names_no_path_outside_its_root(run: Run, root: Path) -> None:
    ran = run("history", root, "--format", "paths")
    assert ran.out == ""
    assert "8 names that no checkpoint can have: --format csv shows them" in ran.err


def test_a_history_gives_the_paths_of_what_was_saved(run: Run, tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, 1)
    assert run("history", tmp_path, "--format", "paths").out == f"{path}\n"


def test_a_path_is_bytes_for_a_program_and_shown_to_a_person(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_checkpoint(tmp_path, 1, name="x\x1b[2J")
    asked = (["ls", tmp_path], ["validate", tmp_path, "--require", "epoch>=9"])
    for name, *arguments in asked:
        assert run(name, *arguments, "--format", "paths").out == f"{path}\n"
    monkeypatch.setattr("smartcash_format.view.terminal.is_terminal", lambda: True)
    for name, *arguments in asked:
        assert run(name, *arguments, "--format", "paths").out == f"{harmless(str(path))}\n"


def test_a_name_with_a_line_break_is_no_two_paths(run: Run, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "root", 2, name="x\n")
    plain = write_checkpoint(tmp_path / "root", 1)
    ran = run("ls", tmp_path / "root", "--format", "paths")
    assert (ran.code, ran.out) == (2, f"{plain}\n")
    assert "--format json" in ran.err


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("name", [STOP, LEGACY])
def test_the_runner_of_github_obeys_no_directory(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, whole: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_checkpoint(tmp_path, 1, name=name)
    if not whole:
        (path / layout.OPTIMIZER).unlink()
    ran = run("validate", ".", path, "--depth", "meta", "--format", "github")
    assert len(ran.out.splitlines()) == 2
    for line in ran.out.splitlines():
        assert line.startswith("ok: " if whole else "::error file=")
        # In a command that it knows the runner looks no further.
        assert not whole or "##[" not in line


@pytest.mark.attack("move", "markup, links and names of people for a summary on GitHub", "text")
def test_a_summary_holds_text_and_no_markup_link_or_name(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "summary")
    name = "https:x @user #1 a|b `c` [d](e) <img src=x>"
    write_checkpoint(tmp_path, 1, name=name)
    run("validate", name, "--depth", "meta", "--format", "github")
    text = (tmp_path / "summary").read_text(encoding="utf-8")
    # A block of HTML from one blank line to the next, in which all foreign text is code.
    assert text == (
        "\n<table>\n<tr><th>checkpoint</th><th>findings</th></tr>\n<tr><td><code>"
        "https:x @user #1 a|b `c` [d](e) &lt;img src=x&gt;</code></td><td>ok</td></tr>\n"
        "</table>\n\n"
    )
