"""One checkpoint in a terminal: whose it is and what made it stand there."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from smartcash_format.spec.meta import Environment, Meta
from smartcash_format.view.checkpoint import checkpoint_tree
from tests.store.checkpoints import RUN, build_meta, identifier


def shown(meta: Meta) -> list[str]:
    console = Console(width=80)
    with console.capture() as captured:
        console.print(checkpoint_tree(Path("c"), meta, now=meta.saved_at))
    return [line.lstrip("│├└─ ") for line in captured.get().splitlines()]


def test_the_run_and_what_it_goes_on_from_are_shown() -> None:
    assert f"run  {RUN[:8]}" in shown(build_meta(1))
    after = build_meta(2, parent_id=identifier(1))
    assert f"run  {RUN[:8]}, after {identifier(1)[:8]}" in shown(after)
    made = build_meta(3, derived_from=identifier(2))
    assert f"run  {RUN[:8]}, made from {identifier(2)[:8]}" in shown(made)


def test_what_made_it_is_shown_as_far_as_it_is_known() -> None:
    environment = Environment(python="3.11.2", torch="2.13.0", git_commit="0123abcd")
    lines = shown(build_meta(1, environment=environment))
    assert "made with  Python 3.11.2, torch 2.13.0" in lines
    assert "commit  0123abcd" in lines
    lines = shown(build_meta(1, environment=Environment()))
    assert not any(line.startswith(("made with", "commit")) for line in lines)


def test_notes_stand_as_config_does() -> None:
    lines = shown(build_meta(1, config={}, notes={"seed": {"torch": 7}, "why": "a second try"}))
    assert lines[-3:] == ["notes", "seed.torch  7", "why  a second try"]
    assert "notes" not in shown(build_meta(1, notes={}))
