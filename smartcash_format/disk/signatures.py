"""Who says that this is the checkpoint: OpenSSF model-signing over the whole directory.

A signature is a file beside the checkpoint (FORMAT.md F-1.12). It is made and checked by the
package model-signing, which comes with the extra `sign`; none of it is loaded before it is asked
for. What is then loaded is bound to what was checked: the signed digest of meta.json is compared
with the bytes of meta.json that were opened, and meta.json names the digests of all that is read.
"""

from __future__ import annotations

import base64
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from smartcash_format.disk.notes import read_note
from smartcash_format.disk.observe import validate
from smartcash_format.disk.read import Opened, open_checkpoint
from smartcash_format.disk.whole_file import whole_file
from smartcash_format.errors import InvalidCheckpointError, SignatureError
from smartcash_format.spec import digest, layout
from smartcash_format.spec.problems import Depth
from smartcash_format.spec.watching import watched

# A few hundred bytes for each file, and a chain of certificates.
SIGNATURE_BYTES: Final = 4 << 20
# A key is 200 bytes; a bundle of root certificates 300 KB.
PEM_BYTES: Final = 1 << 20
_INSTALL: Final = 'signatures need the extra: pip install "smartcash-format[sign]"'
_KEY: Final = b"-----BEGIN PUBLIC KEY-----"
_CERTIFICATE: Final = b"-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True, slots=True, kw_only=True)
class SigstoreIdentity:
    """Who signed through sigstore: an account, and who vouches for it."""

    identity: str
    issuer: str


SignedBy = str | os.PathLike[str] | SigstoreIdentity
"""A PEM file with a public key, one with the certificates that are trusted, or an identity."""


def signature_of(checkpoint: Path) -> Path:
    """Where the signature of a checkpoint is looked for: beside it."""
    path = Path(os.path.abspath(checkpoint))
    return path.with_name(path.name + layout.SIGNATURE_SUFFIX)


def sign(
    checkpoint: str | os.PathLike[str],
    *,
    key: str | os.PathLike[str] | None = None,
    password: str | None = None,
    certificate: str | os.PathLike[str] | None = None,
    chain: Iterable[str | os.PathLike[str]] = (),
    signature: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> Path:
    """The path of a new signature of the whole directory, which is validated at CONTENT first.

    `key` is a PEM file with an elliptic curve's private key; with a `certificate` of that key, and
    the `chain` above it, who trusts the chain's root can verify. Without a key sigstore signs: with
    the identity of the machine where a service gives it one, else it asks in a browser.

    Raises InvalidCheckpointError, CheckpointExistsError where there is a signature and `overwrite`
    was not asked for, SignatureError where the key is not taken or the extra is absent.
    """
    path = Path(checkpoint)
    report = validate(path, Depth.CONTENT)
    if not report.valid:
        message = f"{path.name} was not signed: it is not whole"
        raise InvalidCheckpointError(message, path=path, problems=report.problems)
    target = signature_of(path) if signature is None else Path(signature)
    with _refusals(path, "was not signed"), tempfile.TemporaryDirectory() as aside:
        written = Path(aside) / "signature"
        config = _signer(key, password, certificate, chain)
        with watched(f"signing {path.name}"):
            config.sign(path, written)
        data = written.read_bytes()
    with whole_file(target, overwrite=overwrite) as stream:
        stream.write(data)
    return target


def verify_signature(
    checkpoint: str | os.PathLike[str],
    signed_by: SignedBy,
    *,
    signature: str | os.PathLike[str] | None = None,
) -> Path:
    """The signature that holds: `signed_by` signed this directory, no file more or less.

    Raises SignatureError that says why it does not hold, CheckpointNotFoundError.
    """
    with open_checkpoint(checkpoint) as opened:
        return require_signed(opened, signed_by, signature=signature)


def require_signed(
    opened: Opened, signed_by: SignedBy, *, signature: str | os.PathLike[str] | None = None
) -> Path:
    """The signature that holds of the very meta.json that was opened.

    Whoever then reads with digests verified reads what was signed, whatever happens to the
    directory meanwhile. Raises SignatureError.
    """
    path = opened.path
    place = signature_of(path) if signature is None else Path(signature)
    data = _read(path, place, SIGNATURE_BYTES)
    with _refusals(path, f"is not signed as asked ({place.name})"):
        verifier = _verifier(path, signed_by)
        # What is checked and what is read below are the same bytes, whatever lies there by then.
        with tempfile.TemporaryDirectory() as aside:
            copy = Path(aside) / "signature"
            copy.write_bytes(data)
            with watched(f"verifying the signature of {path.name}"):
                verifier.verify(path, copy)
        stated = _signed_digest(data)
    if stated != digest.digest_of(opened.meta_bytes, "sha256"):
        raise SignatureError(
            f"{path.name} is not signed as asked: {layout.META} is another than the signed one",
            path=path,
            signature=place,
        )
    return place


def _signed_digest(data: bytes) -> str:
    """The digest of meta.json in a signature that holds. Raises ValueError where it has none."""
    envelope = json.loads(data)["dsseEnvelope"]
    predicate = json.loads(base64.b64decode(envelope["payload"]))["predicate"]
    for resource in predicate["resources"]:
        if resource["name"] == layout.META and resource["algorithm"] == "sha256":
            return f"sha256:{resource['digest']}"
    raise ValueError(f"it has no SHA-256 of {layout.META}: sign whole files with SHA-256")


def _signer(
    key: str | os.PathLike[str] | None,
    password: str | None,
    certificate: str | os.PathLike[str] | None,
    chain: Iterable[str | os.PathLike[str]],
) -> Any:
    from model_signing import signing

    config = signing.Config()
    if key is None:
        return config.use_sigstore_signer(use_ambient_credentials=True)
    if certificate is None:
        secret = None if password is None else password.encode()
        return config.use_elliptic_key_signer(private_key=Path(key), password=secret)
    return config.use_certificate_signer(
        private_key=Path(key),
        signing_certificate=Path(certificate),
        # It takes no empty chain; the certificate itself adds nothing to one.
        certificate_chain=[Path(each) for each in chain] or [Path(certificate)],
    )


def _verifier(checkpoint: Path, signed_by: SignedBy) -> Any:
    from model_signing import verifying

    config = verifying.Config()
    if isinstance(signed_by, SigstoreIdentity):
        return config.use_sigstore_verifier(
            identity=signed_by.identity, oidc_issuer=signed_by.issuer
        )
    path = Path(signed_by)
    data = _read(checkpoint, path, PEM_BYTES)
    if _KEY in data:
        return config.use_elliptic_key_verifier(public_key=path)
    if _CERTIFICATE in data:
        return config.use_certificate_verifier(certificate_chain=[path])
    raise ValueError(f"{path.name} is no PEM file with a public key or certificates")


def _read(checkpoint: Path, path: Path, most: int) -> bytes:
    try:
        data = read_note(path, most + 1)
    except FileNotFoundError:
        message = f"{checkpoint.name} is not signed as asked: {path} is not there"
        raise SignatureError(message, path=checkpoint, signature=path) from None
    if len(data) > most:
        message = f"{checkpoint.name}: {path} has more than {most:,} bytes"
        raise SignatureError(message, path=checkpoint, signature=path)
    return data


@contextmanager
def _refusals(path: Path, what: str) -> Iterator[None]:
    """Whatever keeps a signature from being made or from holding is one error: it does not hold."""
    try:
        yield
    except SignatureError:
        raise
    except ImportError as error:
        raise SignatureError(f"{path.name} {what}: {_INSTALL} ({error})", path=path) from error
    except Exception as error:
        # What follows are digests as Python's bytes.
        why = str(error).partition(": Expected ")[0][:500] or type(error).__name__
        raise SignatureError(f"{path.name} {what}: {why}", path=path) from error
