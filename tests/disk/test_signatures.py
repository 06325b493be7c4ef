"""Signatures of OpenSSF model-signing, with offline keys: ours, theirs, and what breaks them."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from smartcash_format.disk import signatures
from smartcash_format.disk.read import open_checkpoint, read_meta
from smartcash_format.disk.signatures import SigstoreIdentity, require_signed, sign
from smartcash_format.disk.signatures import verify_signature as verify
from smartcash_format.errors import (
    CheckpointExistsError,
    InvalidCheckpointError,
    SignatureError,
)
from smartcash_format.integrations.share import receive
from smartcash_format.spec.meta import encode_meta
from smartcash_format.testing.sample import write_sample

_REASON = "the extra `sign` is not installed: `make signatures` installs it and runs this"
pytest.importorskip("model_signing", reason=_REASON)

from cryptography import x509  # noqa: E402
from cryptography.hazmat.primitives import hashes, serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec  # noqa: E402
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID  # noqa: E402
from model_signing import signing, verifying  # noqa: E402

_PEM = serialization.Encoding.PEM
_MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


def _key(directory: Path, name: str, password: bytes | None = None) -> Any:
    key = ec.generate_private_key(ec.SECP256R1())
    locked: Any = serialization.NoEncryption()
    if password is not None:
        locked = serialization.BestAvailableEncryption(password)
    form = serialization.PrivateFormat.PKCS8
    (directory / f"{name}.key").write_bytes(key.private_bytes(_PEM, form, locked))
    public = key.public_key().public_bytes(_PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (directory / f"{name}.pub").write_bytes(public)
    return key


def _certificate(directory: Path, name: str, key: Any, issuer: str, issuer_key: Any) -> None:
    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    is_root = name == issuer
    uses = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False
    )
    usage = x509.KeyUsage(
        digital_signature=not is_root, key_cert_sign=is_root, crl_sign=is_root,
        encipher_only=False, decipher_only=False, **uses,
    )  # fmt: skip
    builder = (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_MOMENT)
        .not_valid_after(_MOMENT + timedelta(days=36_500))
        .add_extension(x509.BasicConstraints(ca=is_root, path_length=None), critical=True)
        .add_extension(usage, critical=True)
    )
    if not is_root:
        purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING])
        builder = builder.add_extension(purpose, critical=False)
    made = builder.sign(issuer_key, hashes.SHA256())
    (directory / f"{name}.pem").write_bytes(made.public_bytes(_PEM))


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`team` and `other` with keys; `leaf` with a certificate under `root`."""
    directory = tmp_path_factory.mktemp("keys")
    _key(directory, "team")
    _key(directory, "other")
    _key(directory, "locked", b"open")
    root, leaf = _key(directory, "root"), _key(directory, "leaf")
    _certificate(directory, "root", root, "root", root)
    _certificate(directory, "leaf", leaf, "root", root)
    return directory


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_sample(tmp_path / "root", epoch=1)


def _theirs(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command of model-signing."""
    return subprocess.run(
        [sys.executable, "-m", "model_signing", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_we_sign_their_command_verifies(checkpoint: Path, keys: Path) -> None:
    signature = sign(checkpoint, key=keys / "team.key")
    assert signature == checkpoint.parent / f"{checkpoint.name}.sig"
    assert verify(checkpoint, keys / "team.pub") == signature
    options = ("verify", "key", checkpoint, "--signature", signature, "--public_key")
    assert _theirs(*options, keys / "team.pub").returncode == 0
    assert _theirs(*options, keys / "other.pub").returncode != 0


def test_what_their_command_signs_we_verify(checkpoint: Path, keys: Path) -> None:
    signature = checkpoint.parent / "theirs.sig"
    options = ("--signature", signature, "--private_key", keys / "team.key")
    done = _theirs("sign", "key", checkpoint, *options)
    assert done.returncode == 0, done.stderr
    verify(checkpoint, keys / "team.pub", signature=signature)
    with pytest.raises(SignatureError, match="Key mismatch"):
        verify(checkpoint, keys / "other.pub", signature=signature)


def test_a_certificate_is_trusted_through_its_root(checkpoint: Path, keys: Path) -> None:
    sign(checkpoint, key=keys / "leaf.key", certificate=keys / "leaf.pem", chain=[])
    verify(checkpoint, keys / "root.pem")
    foreign = keys / "foreign.pem"
    key = _key(keys, "foreign")
    _certificate(keys, "foreign", key, "foreign", key)
    with pytest.raises(SignatureError, match="is not signed as asked"):
        verify(checkpoint, foreign)


def test_a_key_with_a_password_signs(checkpoint: Path, keys: Path) -> None:
    with pytest.raises(SignatureError, match="was not signed"):
        sign(checkpoint, key=keys / "locked.key", password="shut")
    sign(checkpoint, key=keys / "locked.key", password="open")
    verify(checkpoint, keys / "locked.pub")


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "tensors.json"])
def test_a_changed_byte_breaks_it(checkpoint: Path, keys: Path, name: str) -> None:
    sign(checkpoint, key=keys / "team.key")
    data = bytearray((checkpoint / name).read_bytes())
    data[-2] ^= 1
    (checkpoint / name).write_bytes(data)
    with pytest.raises(SignatureError, match=f"Hash mismatch for .*{name}"):
        verify(checkpoint, keys / "team.pub")


@pytest.mark.attack(
    "move", "a changed byte, a file more or less behind a signature", "the signature breaks"
)
def test_a_file_more_or_less_breaks_it(checkpoint: Path, keys: Path) -> None:
    sign(checkpoint, key=keys / "team.key")
    (checkpoint / "README.md").write_text("more")
    with pytest.raises(SignatureError, match="Extra files"):
        verify(checkpoint, keys / "team.pub")
    (checkpoint / "README.md").unlink()
    (checkpoint / "optimizer.pt").unlink()
    with pytest.raises(SignatureError, match="Missing files"):
        verify(checkpoint, keys / "team.pub")


@pytest.mark.attack("move", "a `meta.json` of one's own behind a signature", "the signature breaks")
def test_a_meta_json_of_ones_own_is_not_the_signed_one(checkpoint: Path, keys: Path) -> None:
    sign(checkpoint, key=keys / "team.key")
    forged = encode_meta(read_meta(checkpoint).model_copy(update={"epoch": 99}))
    with open_checkpoint(checkpoint) as opened:
        opened.meta_bytes = forged
        with pytest.raises(SignatureError, match="another than the signed one"):
            require_signed(opened, keys / "team.pub")


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (None, "is not there"),
        (b"{}", "is not signed as asked"),
        (b"\xff" * 100, "is not signed as asked"),
        (b" " * (signatures.SIGNATURE_BYTES + 1), "has more than"),
    ],
)
def test_what_is_no_signature_is_said(
    checkpoint: Path, keys: Path, write: bytes | None, words: str
) -> None:
    if write is not None:
        signatures.signature_of(checkpoint).write_bytes(write)
    with pytest.raises(SignatureError, match=words):
        verify(checkpoint, keys / "team.pub")


def test_a_signature_is_kept_and_rot_is_not_signed(checkpoint: Path, keys: Path) -> None:
    signature = sign(checkpoint, key=keys / "team.key")
    before = signature.read_bytes()
    with pytest.raises(CheckpointExistsError):
        sign(checkpoint, key=keys / "other.key")
    assert signature.read_bytes() == before
    sign(checkpoint, key=keys / "other.key", overwrite=True)
    verify(checkpoint, keys / "other.pub")
    (checkpoint / "tensors.json").write_bytes(b"{}")
    with pytest.raises(InvalidCheckpointError, match="was not signed"):
        sign(checkpoint, key=keys / "team.key", overwrite=True)


def test_what_names_no_signer_is_said(checkpoint: Path, keys: Path) -> None:
    sign(checkpoint, key=keys / "team.key")
    with pytest.raises(SignatureError, match="no PEM file with a public key"):
        verify(checkpoint, keys / "team.key")
    with pytest.raises(SignatureError, match="is not there"):
        verify(checkpoint, keys / "nobody.pub")


def test_what_is_received_bears_its_signature(checkpoint: Path, keys: Path, tmp_path: Path) -> None:
    with pytest.raises(SignatureError):
        receive(checkpoint, tmp_path / "mine", signed_by=keys / "team.pub")
    sign(checkpoint, key=keys / "team.key")
    with pytest.raises(SignatureError, match="Key mismatch"):
        receive(checkpoint, tmp_path / "mine", signed_by=keys / "other.pub")
    assert not [path for path in (tmp_path / "mine").iterdir() if path.is_dir()]
    (received,) = receive(checkpoint, tmp_path / "mine", signed_by=keys / "team.pub")
    verify(received.path, keys / "team.pub")
    (again,) = receive(checkpoint, tmp_path / "mine", signed_by=keys / "team.pub")
    assert again.already


@pytest.mark.torch
def test_a_load_takes_only_what_is_signed(checkpoint: Path, keys: Path) -> None:
    from smartcash_format import CheckpointManager, load_checkpoint

    manager = CheckpointManager(checkpoint.parent)
    for load in (load_checkpoint, manager.load_checkpoint):
        signatures.signature_of(checkpoint).unlink(missing_ok=True)
        with pytest.raises(SignatureError, match="is not there"):
            load(checkpoint, signed_by=keys / "team.pub")
        sign(checkpoint, key=keys / "team.key")
        assert load(checkpoint, signed_by=keys / "team.pub")["epoch"] == 1
        with pytest.raises(ValueError, match="needs verify=True"):
            load(checkpoint, signed_by=keys / "team.pub", verify=False)


def _stand_in(
    monkeypatch: pytest.MonkeyPatch, kind: type, name: str, instead: Callable[[Any], Any]
) -> list[dict[str, Any]]:
    """Puts offline keys in the place of sigstore, which needs a network; how it was asked for.

    What the real one would not take is an error here too.
    """
    real = inspect.signature(getattr(kind, name))
    asked: list[dict[str, Any]] = []

    def called(self: Any, **options: Any) -> Any:
        real.bind(self, **options)
        asked.append(options)
        return instead(self)

    monkeypatch.setattr(kind, name, called)
    return asked


def test_without_a_key_sigstore_is_asked_to_sign(
    checkpoint: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = _stand_in(
        monkeypatch,
        signing.Config,
        "use_sigstore_signer",
        lambda config: config.use_elliptic_key_signer(private_key=keys / "team.key"),
    )
    sign(checkpoint)
    assert asked == [{"use_ambient_credentials": True}]
    verify(checkpoint, keys / "team.pub")


def test_an_identity_is_one_that_sigstore_is_asked_for(
    checkpoint: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = _stand_in(
        monkeypatch,
        verifying.Config,
        "use_sigstore_verifier",
        lambda config: config.use_elliptic_key_verifier(public_key=keys / "team.pub"),
    )
    sign(checkpoint, key=keys / "team.key")
    who = SigstoreIdentity(identity="me@example.org", issuer="https://accounts.example")
    verify(checkpoint, who)
    assert asked == [{"identity": "me@example.org", "oidc_issuer": "https://accounts.example"}]
    (checkpoint / "meta.json").write_bytes(b"{}")
    with pytest.raises((SignatureError, InvalidCheckpointError)):
        verify(checkpoint, who)


@pytest.mark.parametrize("who", ["signer", "verifier"])
def test_what_sigstore_raises_is_a_signature_that_does_not_hold(
    checkpoint: Path, keys: Path, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    def unreachable(config: Any) -> Any:
        raise ConnectionError("no route to the log")

    kind = signing.Config if who == "signer" else verifying.Config
    _stand_in(monkeypatch, kind, f"use_sigstore_{who}", unreachable)
    if who == "signer":
        with pytest.raises(SignatureError, match=r"was not signed: no route to the log"):
            sign(checkpoint)
        assert not signatures.signature_of(checkpoint).exists()
        return
    sign(checkpoint, key=keys / "team.key")
    with pytest.raises(SignatureError, match=r"is not signed as asked .*no route to the log"):
        verify(checkpoint, SigstoreIdentity(identity="me", issuer="https://accounts.example"))
