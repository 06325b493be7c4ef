"""The report: one HTML file that opens anywhere, offline, with everything in it.

What comes from checkpoints stands in it as escaped text or as JSON; the only scripts and styles
that its Content-Security-Policy lets run are those named by their digest; nothing may be fetched.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from smartcash_format.disk.notes import place_of, replace_note
from smartcash_format.disk.whole_file import require_place
from smartcash_format.store.catalog import Listing
from smartcash_format.store.lineage import lineages
from smartcash_format.store.query import Mode
from smartcash_format.view import report_data, words
from smartcash_format.view.answer import Answer, answer
from smartcash_format.view.report_sections import sections

_SCRIPTS: Final = (
    "vendor/uPlot.iife.min.js",
    "templates/report_table.js",
    "templates/report_charts.js",
    "templates/report_compare.js",
    "templates/report.js",
)
_STYLES: Final = ("vendor/uPlot.min.css", "templates/report.css")
_TEMPLATE: Final = "report.html.jinja"
# Half a megabyte opens from a mail. Above this many checkpoints the page grows with them.
PAGE_BYTES: Final = 500_000
CHECKPOINTS: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A report that was written: where, how large, and what it answers."""

    path: Path
    size_bytes: int
    answer: Answer


def write_report(
    path: Path,
    listing: Listing,
    *,
    now: datetime,
    title: str,
    metric: str | None = None,
    mode: Mode | None = None,
) -> Written:
    """Writes the report of a listing to `path`, whole or not at all; to where a link leads.

    `metric` and `mode` decide the best; without them what the flags go by, or the metric's name.
    Raises OSError where it cannot be written, or where no plain file stands.
    """
    place = place_of(path)
    require_place(place)
    found = answer(list(listing), metric, mode)
    page = render(listing, found, now=now, title=title).encode()
    replace_note(place, page)
    return Written(path=path, size_bytes=len(page), answer=found)


def render(listing: Listing, found: Answer, *, now: datetime, title: str) -> str:
    """The report as a page."""
    import jinja2  # only who writes a report waits for it

    scripts = [_resource(name) for name in _SCRIPTS]
    styles = [_resource(name) for name in _STYLES]
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        loader=jinja2.FunctionLoader(lambda name: _resource(f"templates/{name}")),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    roots = lineages(listing)
    shown = sections(listing, found.entry, roots)

    def page(data: str) -> str:
        return environment.get_template(_TEMPLATE).render(
            title=words.harmless(title, 200),
            now=now,
            found=found,
            name=words.harmless(found.entry.name) if found.entry else "",
            path=words.harmless(str(found.entry.path), 5_000) if found.entry else "",
            said=_nothing(listing) if found.entry is None else " ".join(found.sentences()),
            count=len(listing),
            broken=len(listing.broken),
            legacy=len(listing.legacy),
            shown=shown,
            disk_size=words.size(shown.use.size_bytes),
            disk_saved=words.size(shown.use.saved_bytes) if shown.use.saved_bytes else "",
            scripts=[_trusted(script) for script in scripts],
            styles=[_trusted(style) for style in styles],
            script_hashes=[_hash(script) for script in scripts],
            style_hashes=[_hash(style) for style in styles],
            data=_trusted(data),
            weights=_trusted(report_data.json_for_script(shown.weights)),
        )

    allowed = int(PAGE_BYTES * max(1.0, len(listing) / CHECKPOINTS))
    room = allowed - len(page("").encode())
    return page(report_data.document(listing, found, roots, now=now, allowed=room))


def _nothing(listing: Listing) -> str:
    """What there is instead of a checkpoint, in words."""
    if listing.broken:
        return f"{len(listing.broken)} that look like checkpoints cannot be read: see why below."
    if listing.legacy:
        old = words.several(len(listing.legacy), "old .pt or .pth file")
        return f"There is no checkpoint here, only {old}: see smartcash-format convert."
    return "There is no checkpoint here."


def _resource(name: str) -> str:
    return (files("smartcash_format") / "view" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def _trusted(text: str) -> Any:
    """Our own text, which autoescape leaves as it is."""
    import markupsafe

    return markupsafe.Markup(text)
