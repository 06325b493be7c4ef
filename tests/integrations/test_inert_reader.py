"""The reader of strangers' pickles, in this process: what is hostile is refused, and soon."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import torch

from smartcash_format.errors import UnsafeCheckpointError, UnsavableStateError
from smartcash_format.integrations import legacy_pt
from smartcash_format.integrations.convert import convert
from smartcash_format.integrations.inert_reader import read
from smartcash_format.integrations.inert_values import Refusal
from smartcash_format.integrations.legacy_pt import read_torch_file
from tests.costs import SOON, measured

_HEAD = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})


def _zipped(path: Path, program: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", program)
    return path


def _legacy(path: Path, program: bytes) -> Path:
    head = b"".join(pickle.dumps(part, 2) for part in _HEAD)
    path.write_bytes(head + program + pickle.dumps([], 2))
    return path


def _value(path: Path) -> Any:
    return read(str(path), ())["value"]


def _nested_tuple(levels: int) -> bytes:
    """A dict whose key is a tuple of the tuple before, twice, at so many levels."""
    return b"\x80\x02}K\x01\x85" + b"2\x86" * levels + b"Ns."


def _colliding(count: int) -> list[int]:
    return [number * (2**61 - 1) for number in range(1, count)]


_HOSTILE = {
    "a tuple of tuples as a key": _nested_tuple(40),
    "integers of one hash": b"\x80\x02}("
    + b"".join(pickle.dumps(n, 2)[2:-1] + b"N" for n in _colliding(60_000))
    + b"u.",
    "memos of one hash": b"\x80\x02N"
    + b"".join(b"r" + struct.pack("<L", n << 17 & 0xFFFFFFFF) for n in range(1, 60_000))
    + b".",
    "bytes that are not there": b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b".",
    "text that is not there": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40) + b".",
    "one text in many places": pickle.dumps(["x" * (1 << 20)], 2)[:-1]
    + b"(" + b"h\x01" * 100 + b"e.",
    "one integer in many places": b"\x80\x02](\x8b" + struct.pack("<L", 1_700)
    + b"\x7f" * 1_700 + b"q\x00" + b"h\x00" * 200_000 + b"e.",
    "lists of lists": b"\x80\x02]q\x00" + b"".join(
        b"](" + (b"h" + bytes([n])) * 10 + b"eq" + bytes([n + 1])
        for n in range(12)
    ) + b".",
    "an array of numpy in many places": b"\x80\x02]q\x00(cnumpy.core.multiarray\n_reconstruct\n)R"
    b"(K\x01K\x01\x85cnumpy\ndtype\nX\x02\0\0\0u1\x85R\x89X\x40\x42\x0f\0"
    + b"0" * 1_000_000 + b"tbq\x01" + b"h\x01" * 100 + b"e.",
}  # fmt: skip


@pytest.mark.no_cover
@pytest.mark.attack("convert", each_of="_HOSTILE")
@pytest.mark.parametrize("write", [_zipped, _legacy])
@pytest.mark.parametrize("what", _HOSTILE)
def test_what_takes_long_or_becomes_large_is_refused_soon(
    tmp_path: Path, what: str, write: Any
) -> None:
    source = write(tmp_path / "w.pt", _HOSTILE[what])
    refusals = (Refusal, EOFError, ValueError, pickle.UnpicklingError, TypeError)
    with measured() as cost, pytest.raises(refusals):
        _value(source)
    assert cost.readings < SOON


def test_members_of_a_set_are_not_hashed(tmp_path: Path) -> None:
    members = b"".join(pickle.dumps((n,), 2)[2:-1] for n in _colliding(20_000))
    with measured() as cost:
        node = _value(_zipped(tmp_path / "w.pt", b"\x80\x04\x8f(" + members + b"\x90."))
    assert len(node) == 20_000
    assert cost.readings < SOON


def test_a_message_shows_little_of_what_it_is_about(tmp_path: Path) -> None:
    program = b"\x80\x02(" + pickle.dumps("x" * 1_000_000, 2)[2:-1] + b"tQ."
    with pytest.raises(Refusal) as refused:
        _value(_zipped(tmp_path / "w.pt", program))
    assert len(refused.value.asked) < 200
    torch.save({"k" * 100_000: {"a": 1}}, tmp_path / "k.pt")
    with pytest.raises(UnsavableStateError) as nothing:
        convert(tmp_path / "k.pt", tmp_path / "root")
    assert len(str(nothing.value)) < 300


def test_keys_of_old_optimizers_and_of_enumerations_come_in(tmp_path: Path) -> None:
    old = {140_000_000_000_000 + 80 * number: {"step": number} for number in range(2_000)}
    node = _value(_zipped(tmp_path / "w.pt", pickle.dumps({"state": old}, 2)))
    assert len(node[1][0][1][1]) == 2_000
    odd = b"\x80\x02}(K\x05N" + b"cutils.kinds\nKind\nK\x01\x85RK\x01" + b"u."
    document = read(str(_zipped(tmp_path / "e.pt", odd)), ("utils.*",))
    assert document["value"] == ["dict", [[5, None]]]
    assert len(document["dropped"]) == 1


@pytest.mark.parametrize("protocol", range(6))
def test_values_come_in_from_every_protocol(tmp_path: Path, protocol: int) -> None:
    value = {"a": [1, -2.5, None, True, "é"], "b": {(1, "x"): 2}, "c": {3}, 7: {"d": 1 << 70}}
    node = _value(_zipped(tmp_path / "w.pt", pickle.dumps(value, protocol)))
    found = dict(map(tuple, node[1]))
    assert found["a"] == ["list", 1, -2.5, None, True, "é"]
    assert found["b"] == ["dict", [["(1, 'x')", 2]]]
    assert found["c"][1:] == [3]
    assert found[7] == ["dict", [["d", 1 << 70]]]


def test_a_time_with_a_zone_comes_in(tmp_path: Path) -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=7)))
    program = pickle.dumps({"t": moment}, 2)
    node = _value(_zipped(tmp_path / "w.pt", program))
    assert node[1] == [["t", "2026-01-02T03:04:05+07:00"]]


class TestArchives:
    """Zip archives that two readers would read as two files."""

    def _made(self, path: Path, change: Any) -> Path:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps({"w": 1}, 2))
            archive.writestr("archive/data.pk2", pickle.dumps({"w": 2}, 2))
        path.write_bytes(change(stream.getvalue()))
        return path

    def test_a_sound_one_is_read(self, tmp_path: Path) -> None:
        path = _zipped(tmp_path / "w.pt", pickle.dumps({"w": 1}, 2))
        with zipfile.ZipFile(path, "a") as archive:
            for name in ("byteorder", ".format_version", ".data/serialization_id", "version"):
                archive.writestr(f"archive/{name}", b"little")
        assert _value(path) == ["dict", [["w", 1]]]

    @pytest.mark.attack("convert", "a record that torch does not write, or that nothing names")
    @pytest.mark.parametrize(
        "name",
        ["archive/payload", "x", "../../etc/cron.d/x", "archive/data/0", "archive/model.py"],
    )
    def test_a_record_of_no_use_is_refused_by_name(self, tmp_path: Path, name: str) -> None:
        path = _zipped(tmp_path / "w.pt", pickle.dumps({"w": 1}, 2))
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(name, b"\x7fELF")
        with pytest.raises(Refusal) as caught:
            _value(path)
        assert (caught.value.asked, "no such record" in caught.value.why) == (name, True)

    @pytest.mark.attack("convert", "zip archives that two readers read as two files")
    @pytest.mark.parametrize(
        "change",
        [
            # The own header of the first entry has the other name.
            lambda data: data.replace(b"data.pkl", b"data.pk0", 1),
            # Both entries have one name.
            lambda data: data.replace(b"data.pk2", b"data.pkl"),
            # The directory has the first entry twice.
            lambda data: (
                data[: data.rindex(b"data.pk2") - 12]
                + struct.pack("<L", 0)
                + data[data.rindex(b"data.pk2") - 8 :]
            ),
            # The own header gives another size.
            lambda data: data[:22] + struct.pack("<L", 9) + data[26:],
            # The own header calls the entry compressed.
            lambda data: data[:8] + b"\x08\x00" + data[10:],
            # Something lies before the first entry.
            lambda data: b"PK\x03\x04" + data,
        ],
    )
    def test_one_that_says_a_thing_twice_is_refused(self, tmp_path: Path, change: Any) -> None:
        with pytest.raises(Refusal) as caught:
            _value(self._made(tmp_path / "w.pt", change))
        assert any(word in caught.value.why for word in ("disagree", "twice", "where the"))


@pytest.mark.attack("convert", "a second program behind the first, bytes behind the last storage")
@pytest.mark.parametrize("make", [_zipped, _legacy])
def test_what_follows_the_program_is_refused(tmp_path: Path, make: Any) -> None:
    evil = b"cposix\nsystem\n(X\x02\x00\x00\x00lstR."
    whole = pickle.dumps({"w": 1}, 2)
    assert _value(make(tmp_path / "sound.pt", whole)) == ["dict", [["w", 1]]]
    path = make(tmp_path / "w.pt", whole + (evil if make is _zipped else b""))
    if make is _legacy:
        path.write_bytes(path.read_bytes() + evil)
    with pytest.raises(Refusal) as caught:
        _value(path)
    assert "follow" in caught.value.why


@pytest.mark.attack("convert", "overlapping tensors that multiply the file")
def test_small_files_do_not_become_large_checkpoints(tmp_path: Path) -> None:
    base = torch.ones(20_000)
    torch.save({f"w.{at}": base[at:] for at in range(50)}, tmp_path / "w.pt")
    with pytest.raises(UnsavableStateError, match="4 times its own size"):
        convert(tmp_path / "w.pt", tmp_path / "root")
    torch.save({f"w.{at}": base for at in range(50)}, tmp_path / "tied.pt")
    convert(tmp_path / "tied.pt", tmp_path / "root")


@pytest.mark.attack("convert", "a reader that does not end, or prints without end")
def test_a_reader_that_takes_too_long_or_says_too_much_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = _zipped(tmp_path / "w.pt", pickle.dumps({}, 2))
    monkeypatch.setattr(legacy_pt, "SECONDS", 1)
    monkeypatch.setattr(legacy_pt, "_PROGRAM", "import time; time.sleep(60)")
    with pytest.raises(UnsafeCheckpointError, match="more than 1 seconds"):
        read_torch_file(source)
    monkeypatch.setattr(legacy_pt, "_PROGRAM", "while True: print('[' * 1000)")
    monkeypatch.setattr(legacy_pt, "DOCUMENT_BYTES", 10_000)
    monkeypatch.setattr(legacy_pt, "SECONDS", 60)
    with pytest.raises(UnsafeCheckpointError, match="without an answer"):
        read_torch_file(source)
