"""`sign` and `verify`: who says that this is the checkpoint."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from smartcash_format.cli import asking, exits, output
from smartcash_format.disk import signatures

SIGN_EXAMPLES = """
\b
Examples:
  smartcash-format sign CHECKPOINT --key team.key
  smartcash-format sign CHECKPOINT

Without a key sigstore signs, and asks who you are in a browser. A key's password is read from the
variable SMARTCASH_FORMAT_KEY_PASSWORD. It needs the extra: pip install "smartcash-format[sign]"."""
PASSWORD = "SMARTCASH_FORMAT_KEY_PASSWORD"
VERIFY_EXAMPLES = """
\b
Examples:
  smartcash-format verify CHECKPOINT --key team.pub
  smartcash-format verify CHECKPOINT --certificate roots.pem
  smartcash-format verify CHECKPOINT --identity me@example.org --issuer URL

Exit code 1 says that it is not signed so."""

Signature = Annotated[
    Path | None,
    typer.Option("--signature", metavar="FILE", help="Where it is, if not beside the checkpoint."),
]


def register(app: typer.Typer) -> None:
    """Adds both commands."""
    app.command("sign", epilog=SIGN_EXAMPLES)(sign)
    app.command("verify", epilog=VERIFY_EXAMPLES)(verify)


def sign(
    checkpoint: asking.Checkpoint,
    key: Annotated[
        Path | None, typer.Option("--key", metavar="FILE", help="A private key, as PEM.")
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option("--certificate", metavar="FILE", help="The key's certificate.")
    ] = None,
    chain: Annotated[
        list[Path] | None,
        typer.Option("--chain", metavar="FILE", help="Certificates above it, but the root."),
    ] = None,
    signature: Signature = None,
    force: Annotated[bool, typer.Option("--force", help="Replace one that is there.")] = False,
) -> None:
    """Sign every file of a checkpoint.

    The signature is a file beside it.
    """
    with exits.force_replaces():
        path = signatures.sign(
            checkpoint,
            key=key,
            password=os.environ.get(PASSWORD),
            certificate=certificate,
            chain=chain or (),
            signature=signature,
            overwrite=force,
        )
    output.line(str(path))


def verify(
    checkpoint: asking.Checkpoint,
    key: Annotated[
        Path | None, typer.Option("--key", metavar="FILE", help="The signer's public key, as PEM.")
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option("--certificate", metavar="FILE", help="The certificates that are trusted."),
    ] = None,
    identity: Annotated[
        str | None, typer.Option("--identity", metavar="NAME", help="Who signed with sigstore.")
    ] = None,
    issuer: Annotated[
        str | None, typer.Option("--issuer", metavar="URL", help="Who vouches for the identity.")
    ] = None,
    signature: Signature = None,
) -> None:
    """Check who signed a checkpoint.

    Every file has to be as it was signed, and there must be no file more.
    """
    signer = _signer(key, certificate, identity, issuer)
    held = signatures.verify_signature(checkpoint, signer, signature=signature)
    output.line(f"{held}: holds")


def _signer(
    key: Path | None, certificate: Path | None, identity: str | None, issuer: str | None
) -> signatures.SignedBy:
    files = [path for path in (key, certificate) if path is not None]
    if len(files) == 1 and identity is None and issuer is None:
        return files[0]
    if not files and identity and issuer:
        return signatures.SigstoreIdentity(identity=identity, issuer=issuer)
    raise ValueError("name one signer: --key, --certificate, or --identity with --issuer")
