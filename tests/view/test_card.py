"""A model card: what the metadata says, in Markdown that foreign text does not change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from markdown_it import MarkdownIt
from rich.console import Console

from smartcash_format.view.card import CONFIG_CHARACTERS, card
from smartcash_format.view.checkpoint import checkpoint_tree
from tests.store.checkpoints import build_meta

_HOSTILE = "`</code><script>x()</script> | [a](https://evil.example) ``` \n# head\x1b[2J\u202e"


def _html(text: str) -> str:
    """As a renderer shows it that lets HTML through."""
    body = text.split("---\n", 2)[2]
    rendered = MarkdownIt("commonmark", {"html": True}).enable("table").render(body)
    assert isinstance(rendered, str)
    return rendered


def _front(text: str) -> Any:
    return yaml.safe_load(text.split("---\n", 2)[1])


def test_the_card_says_what_the_checkpoint_is_and_leaves_room() -> None:
    meta = build_meta(7, tags=["rupiah", "a: b"], config={"lr": 0.01})
    text = card("epoch-0007-00000007", meta)
    page = _html(text)
    assert _front(text) == {"tags": ["rupiah", "a: b"]}
    assert "<h1><code>efficientnet_b4</code>, epoch 7</h1>" in page
    assert "<td><code>val_map</code></td>\n<td>0.5000</td>" in page
    assert "This page is a draft" in page
    assert "&quot;lr&quot;: 0.01" in page
    assert meta.weights["model"].weights_digest in page


def test_an_empty_config_has_no_place() -> None:
    meta = build_meta(7, config={})
    assert "Configuration" not in card("epoch-0007-00000007", meta)
    console = Console(width=80)
    with console.capture() as captured:
        console.print(checkpoint_tree(Path("c"), meta, now=meta.saved_at))
    assert "epoch  7" in captured.get()
    assert "config" not in captured.get()


def test_foreign_text_is_never_markup() -> None:
    meta = build_meta(
        1,
        tags=[_HOSTILE],
        backbone=_HOSTILE,
        dataset=_HOSTILE,
        metrics={_HOSTILE: 0.5, "|": 1, "`": 2},
        config={_HOSTILE: [_HOSTILE], "fence": "`````"},
    )
    text = card("epoch-0001-00000001", meta)
    page = _html(text)
    assert "<script" not in page
    assert "<a " not in page
    assert page.count("<h1>") == 1
    assert page.count("<h2>") == 3
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert page.count("<tr>") == 2 + sum(1 for _ in range(5)) + 3
    assert isinstance(_front(text)["tags"][0], str)


def test_a_long_configuration_stays_where_it_is() -> None:
    meta = build_meta(1, config={"text": "x" * CONFIG_CHARACTERS})
    page = _html(card("epoch-0001-00000001", meta))
    assert "stands in <code>meta.json</code>" in page
    assert "xxx" not in page
