"""What a stranger need not know is found by its shape, its key or its name, and nothing else is."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from smartcash_format.spec.meta import Meta
from smartcash_format.spec.personal import SECRET_CHARACTERS, curate, find

_ID = str(UUID(int=1))
_BEGIN = "-----BEGIN RSA PRIVATE KEY-----"


def _meta(**said: Any) -> Meta:
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    known: dict[str, Any] = {"checkpoint_id": _ID, "run_id": _ID, "saved_at": moment, "epoch": 1}
    return Meta(**known, is_best=False, files={}, **said)


@pytest.mark.parametrize(
    ("value", "kind", "left"),
    [
        ("/srv/someone/data.yaml", "path", "<path>"),
        ("/content/drive/My Drive/SmartCash/data", "path", "<path>"),
        ("~/runs/one", "path", "<path>"),
        ("~someone/runs", "path", "<path>"),
        ("file:///srv/someone/x.pt", "path", "<path>"),
        ("C:\\Users\\someone\\x.pt", "path", "<path>"),
        ("D:/data/x", "path", "<path>"),
        ("\\\\server\\share\\x", "path", "<path>"),
        ("read from /mnt/nfs/x, twice", "path", "read from <path>, twice"),
        ("--data=/mnt/x", "path", "--data=<path>"),
        ("gpu:/mnt/x", "path", "gpu:<path>"),
        ("python train.py --lr 0.1", "command line", "<command line>"),
        ("/usr/bin/python3.11 -m train", "command line", "<command line>"),
        ("torchrun --nproc 2 train.py", "command line", "<command line>"),
        ("CUDA_VISIBLE_DEVICES=0 python train.py", "command line", "<command line>"),
        ("bash run.sh", "command line", "<command line>"),
        ("uv run train.py --lr 1", "command line", "<command line>"),
        ("by someone@example.org", "name", "by <name>"),
        ("tcp 10.0.0.17 is up", "name", "tcp <name> is up"),
        ("at fe80::1ff:fe23:4567:890a", "name", "at <name>"),
        ("[2001:db8:0:1:1:1:1:1]", "name", "[<name>]"),
        ("on gpu-box-7 as before", "name", "on <name> as before"),
        ("hf_abcdefghijklmnopqrstuvwxyz", "secret", "<secret>"),
        ("npm_abcdefghijklmnopqrstuvwxyz", "secret", "<secret>"),
        ("ghs_abcdefghijklmnopqrstuvwxyz", "secret", "<secret>"),
        ("AIza" + "x" * 35, "secret", "<secret>"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIx.abcdefghijk", "secret", "<secret>"),
        (
            f"{_BEGIN}\nMIIE\nAB==\n{_BEGIN.replace('BEGIN', 'END')}, as ever",
            "secret",
            "<secret>, as ever",
        ),
        (f"key: {_BEGIN}\nMIIE", "secret", "key: <secret>"),
        ("https://me:pass@host/x", "secret", "https://<secret>@host/x"),
    ],
)
def test_a_text_that_tells_is_found_and_only_what_tells_goes(
    value: str, kind: str, left: str
) -> None:
    cleaned, findings = curate(_meta(config={"key": value}), ["gpu-box-7"])
    assert [(found.where, found.kind) for found in findings] == [("config.key", kind)]
    assert cleaned.config == {"key": left}


@pytest.mark.parametrize(
    "value",
    [
        *("N/A", "1/2", "metrics/mAP50-95(B)", "data/rupiah.yaml", "../up", "a: b", "100%", "/"),
        *("https://example.org/a/b", "s3://bucket/key", "precision@k", "mAP@0.5:0.95", "1.2.3"),
        *("python is a language", "Conv2d(3, 4) -> x", "<|im_end|>", "1e-3", "", "$HOME/x"),
        *("x[2000:3000]", "2026:11:29 12:30:45", "1::2", "bash is a shell", "https://a.org:80/x"),
    ],
)
def test_what_tells_nothing_stays(value: str) -> None:
    assert find({"key": [value]}, "config", ["gpu-box-7"]) == ()


@pytest.mark.parametrize(
    ("key", "value", "kind"),
    [
        ("argv", ["train.py", "--lr", "1"], "command line"),
        ("sys.argv", ["train.py"], "command line"),
        ("USER", "x", "environment"),
        ("SLURM_JOB_ID", "17", "environment"),
        ("env", {"OMP_NUM_THREADS": "2"}, "environment"),
        ("hostname", "x", "name"),
        ("user_name", "x", "name"),
        ("api_key", "abc", "secret"),
        ("wandb_api_key", "abc", "secret"),
        ("AWS-Secret-Access-Key", "abc", "secret"),
        ("db.password", 12345, "secret"),
        ("client_secret", "abc", "secret"),
        ("credentials", {"a": "b"}, "secret"),
        ("num_tokens", 5, None),
        ("max_token", "abc", None),
        ("env", {"id": "CartPole"}, None),
        ("pad_token", "<pad>", None),
        ("token", None, None),
        ("host", 3, None),
        ("args", {"lr": 1}, None),
    ],
)
def test_a_key_says_what_its_value_is(key: str, value: object, kind: str | None) -> None:
    found = find({"train": {key: value}}, "config")
    assert [each.kind for each in found] == ([kind] if kind else [])
    assert all(each.where == f"config.train.{key}" for each in found)


def test_keys_tags_and_names_are_searched_like_texts() -> None:
    meta = _meta(
        config={"/srv/a": 1, "/srv/b": 2},
        notes={"by": ["someone@example.org"]},
        metrics={"/srv/c": 0.5},
        tags=["/srv/d", "/srv/e", "kept"],
        dataset="/srv/f",
        backbone="resnet18",
    )
    cleaned, findings = curate(meta)
    assert cleaned.config == {"<path>": 1, "<path> #2": 2}
    assert cleaned.notes == {"by": ["<name>"]}
    assert cleaned.metrics == {"<path>": 0.5}
    assert (cleaned.tags, cleaned.dataset, cleaned.backbone) == (
        ["<path>", "kept"],
        "<path>",
        "resnet18",
    )
    assert len(findings) == 7
    assert curate(cleaned)[1] == ()


def test_a_secret_is_not_shown_whole() -> None:
    (found,) = find({"password": "correct horse"}, "config")
    assert found.text == "corr…"
    assert len(found.text) == SECRET_CHARACTERS + 1


def test_common_and_short_names_are_nobodys() -> None:
    assert find("root ran it as a user on pc1", "notes", ["root", "user", "pc1", ""]) == ()


def test_half_a_megabyte_of_anything_is_read_once() -> None:
    for piece in (
        "a",
        "/",
        "~",
        "a@",
        "a.",
        "1.",
        "\\",
        "x://a:",
        "-eyJ",
        "2000:",
        "A= ",
        ":/",
        _BEGIN,
    ):
        text = piece * (500_000 // len(piece))
        find({"key": text}, "config", ["gpu-box-7"])
