"""A meta.json that no reader takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from smartcash_format.spec.digest import ZEROS, digest_of
from tests.contract.build import draft, json_bytes, sealed
from tests.contract.register import META, Files, breach, example


def meta(**changes: Any) -> Callable[[], Files]:
    """A sealed meta.json with other fields; one that is None on purpose is given as None."""

    def make() -> Files:
        files = draft().files()
        document = json.loads(files["meta.json"]) | changes
        return files | {"meta.json": sealed(document)}

    return make


def meta_without(*names: str) -> Callable[[], Files]:
    """A sealed meta.json without some fields."""

    def make() -> Files:
        files = draft().files()
        document = json.loads(files["meta.json"])
        for name in names:
            del document[name]
        return files | {"meta.json": sealed(document)}

    return make


def meta_text(old: str, new: str, *, seal_again: bool = True) -> Callable[[], Files]:
    """A meta.json in whose bytes something else stands, with a digest that holds if wanted."""

    def make() -> Files:
        files = draft().files()
        data = files["meta.json"]
        assert data.count(old.encode()) == 1, old
        data = data.replace(old.encode(), new.encode())
        return files | {"meta.json": resealed(data) if seal_again else data}

    return make


def resealed(data: bytes) -> bytes:
    """The bytes with the digest that they should have."""
    start = data.index(b'"meta_digest": "blake3:') + len(b'"meta_digest": "blake3:')
    zeroed = data[:start] + ZEROS.encode() + data[start + len(ZEROS) :]
    digits = digest_of(zeroed).removeprefix("blake3:").encode()
    return data[:start] + digits + data[start + len(ZEROS) :]


def meta_bytes(change: Callable[[bytes], bytes]) -> Callable[[], Files]:
    def make() -> Files:
        files = draft().files()
        return files | {"meta.json": change(files["meta.json"])}

    return make


def without_digest(data: bytes) -> bytes:
    document = json.loads(data)
    del document["meta_digest"]
    return json_bytes(document)


def deep(levels: int) -> object:
    found: object = "bottom"
    for _ in range(levels):
        found = [found]
    return found


breach(
    "not-a-checkpoint--no-meta",
    META,
    lambda: {k: v for k, v in draft().files().items() if k != "meta.json"},
)
breach("foreign-format--of-something-else", META, meta(format="orbax-checkpoint"))
breach("foreign-format--no-format", META, meta_without("format"))
breach("newer-version--two", META, meta(format_version="2.0"))
breach(
    "newer-version--two-and-nothing-else-known",
    META,
    lambda: {"meta.json": json_bytes({"format": "smartcash-checkpoint", "format_version": "2.1"})},
)
breach("json-encoding--byte-order-mark", META, meta_bytes(lambda data: b"\xef\xbb\xbf" + data))
breach("json-encoding--utf-16", META, meta_bytes(lambda data: data.decode().encode("utf-16")))
breach("json-encoding--lone-surrogate", META, meta_text('"an example"', '"an \\ud800 example"'))
breach("json-syntax--truncated", META, meta_bytes(lambda data: data[: len(data) // 2]))
breach("json-syntax--empty", META, meta_bytes(lambda data: b""))
breach("json-syntax--trailing-comma", META, meta_text('"an example"', '"an example",'))
breach("json-syntax--comment", META, meta_bytes(lambda data: b"// mine\n" + data))
breach("json-syntax--zeros-after-a-power-cut", META, meta_bytes(lambda data: b"\0" * len(data)))
breach("json-duplicate-key--epoch-twice", META, meta_text('"epoch": 10,', '"epoch":10,"epoch":11,'))
breach(
    "json-duplicate-key--behind-an-escape",
    META,
    meta_text('"epoch": 10,', '"epoch": 10,"\\u0065poch": 11,'),
)
breach("json-duplicate-key--in-the-config", META, meta_text('"lr": 0.001', '"lr":1,"lr" :2'))
breach("json-number--nan", META, meta_text('"val_loss": 0.25', '"val_loss": NaN'))
breach("json-number--minus-infinity", META, meta_text('"val_loss": 0.25', '"val_loss": -Infinity'))
breach("json-number--beyond-a-double", META, meta_text('"val_loss": 0.25', '"val_loss": 1e999'))
breach(
    "json-number--beyond-64-bits",
    META,
    meta_text('"step": 1200', '"step": 9223372036854775808'),
)
breach("json-too-deep--config", META, meta(config=deep(64)))
breach("json-too-deep--ten-thousand-brackets", META, meta_bytes(lambda data: b"[" * 10_000))
breach("field-missing--epoch", META, meta_without("epoch"))
breach("field-missing--files", META, meta_without("files"))
breach(
    "field-missing--meta-digest",
    META,
    meta_bytes(without_digest),
)
breach("field-unknown--of-no-version", META, meta(mood="good"))
breach(
    "field-unknown--in-a-file",
    META,
    meta_text('"role":"weights"', '"role":"weights","mode":"rw"'),
)
WRONG: dict[str, dict[str, Any]] = {
    "epoch-is-text": {"epoch": "10"},
    "epoch-is-negative": {"epoch": -1},
    "epoch-with-a-point": {"epoch": 10.0},
    "epoch-is-true": {"epoch": True},
    "is-best-is-a-number": {"is_best": 1},
    "metric-is-null": {"metrics": {"val_loss": None}},
    "metric-is-text": {"metrics": {"val_loss": "0.25"}},
    "metric-name-too-long": {"metrics": {"x" * 257: 1}},
    "a-thousand-and-one-metrics": {"metrics": {f"m{n}": n for n in range(1_001)}},
    "a-hundred-and-one-tags": {"tags": [str(n) for n in range(101)]},
    "time-without-zone": {"saved_at": "2026-01-31T12:00:00.000000"},
    "time-with-offset": {"saved_at": "2026-01-31T12:00:00.000000+07:00"},
    "time-without-microseconds": {"saved_at": "2026-01-31T12:00:00Z"},
    "no-such-day": {"saved_at": "2026-02-30T12:00:00.000000Z"},
    "id-in-capitals": {"checkpoint_id": "6F1B9A52-3C44-4D0E-9A17-0C5D2E8F4B01"},
    "set-name-with-a-capital": {"weights": {"Model": {}}},
    "version-with-a-zero": {"format_version": "1.00"},
    "version-below-one": {"format_version": "0.9"},
    "digest-without-algorithm": {
        "files": {"tensors.json": {"role": "tensors", "size_bytes": 1, "digest": "0" * 64}}
    },
}
for name, changes in WRONG.items():
    breach(f"field-invalid--{name}", META, meta(**changes))
breach("field-invalid--not-an-object", META, meta_bytes(lambda data: b"[]\n"))
breach(
    "meta-digest-mismatch--one-metric-edited",
    META,
    meta_text('"val_map": 0.5', '"val_map": 0.9', seal_again=False),
)
breach("meta-digest-mismatch--one-space-more", META, meta_bytes(lambda data: data + b" "))
breach(
    "meta-digest-mismatch--zeros",
    META,
    meta_bytes(lambda data: json_bytes(json.loads(data) | {"meta_digest": f"blake3:{ZEROS}"})),
)


@example("meta-digest-mismatch--stated-twice", META)
def _stated_twice() -> Files:
    # The digits stand in the notes as well: which ones are zeros while the digest is taken?
    made = draft()
    digits = "5e" * 32
    made.meta["notes"] = {"copy": digits}
    files = made.files()
    document = json.loads(files["meta.json"]) | {"meta_digest": f"blake3:{digits}"}
    return files | {"meta.json": json_bytes(document)}


breach(
    "digest-unknown--of-meta",
    META,
    meta_bytes(lambda data: json_bytes(json.loads(data) | {"meta_digest": "k12:" + "0" * 64})),
)
