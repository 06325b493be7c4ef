"""`sign`, `verify` and `--signed-by`: who signed, as exit codes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from smartcash_format.disk import signatures
from smartcash_format.disk.whole_file import whole_file
from smartcash_format.testing.sample import write_sample
from tests.cli.conftest import Run


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_sample(tmp_path / "root", epoch=1)


def _key(directory: Path) -> Path:
    """`team.key`, and `team.pub` beside it."""
    pytest.importorskip("model_signing", reason="the extra `sign` is not installed")
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    pem, locked = serialization.Encoding.PEM, serialization.NoEncryption()
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, locked)
    public = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    (directory / "team.key").write_bytes(private)
    (directory / "team.pub").write_bytes(public)
    return directory / "team.key"


def test_what_is_signed_verifies_and_what_changed_does_not(
    run: Run, tmp_path: Path, checkpoint: Path
) -> None:
    key = _key(tmp_path)
    public = key.with_suffix(".pub")
    ran = run("sign", checkpoint, "--key", key)
    assert (ran.code, ran.out) == (0, f"{checkpoint}.sig\n")
    assert run("verify", checkpoint, "--key", public).out == f"{checkpoint}.sig: holds\n"
    assert run("validate", checkpoint, "--signed-by", public).code == 0
    (checkpoint / "added").write_bytes(b"")
    ran = run("verify", checkpoint, "--key", public)
    assert (ran.code, ran.out) == (1, "")
    assert "Extra files" in ran.err
    ran = run("validate", checkpoint, "--signed-by", public, "--format", "json")
    (report,) = json.loads(ran.out)["reports"]
    assert (ran.code, report["valid"], report["passed"]) == (1, True, False)
    assert "Extra files" in report["unmet"][0]


def test_a_checkpoint_without_a_signature_is_a_finding(
    run: Run, tmp_path: Path, checkpoint: Path
) -> None:
    ran = run("validate", checkpoint, "--signed-by", tmp_path / "team.pub")
    assert ran.code == 1
    assert "is not signed as asked" in ran.out


def test_without_the_extra_it_says_how_to_install_it(
    run: Run, tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "model_signing", None)
    ran = run("sign", checkpoint, "--key", tmp_path / "team.key")
    assert ran.code == 3
    assert 'pip install "smartcash-format[sign]"' in ran.err
    assert not checkpoint.with_name(f"{checkpoint.name}.sig").exists()


def test_a_signature_that_is_there_is_replaced_by_force_alone(
    run: Run, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sign(path: Path, *, overwrite: bool, **_: object) -> Path:
        target = path.with_name(f"{path.name}.sig")
        with whole_file(target, overwrite=overwrite) as stream:
            stream.write(b"{}")
        return target

    monkeypatch.setattr(signatures, "sign", sign)
    assert run("sign", checkpoint, "--key", "team.key").code == 0
    again = run("sign", checkpoint, "--key", "team.key")
    assert again.code == 3
    assert again.err.endswith(".sig exists already; nothing was written; --force replaces it\n")
    assert run("sign", checkpoint, "--key", "team.key", "--force").code == 0


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--key", "a", "--certificate", "b"),
        ("--identity", "me"),
        ("--key", "a", "--identity", "me", "--issuer", "x"),
    ],
)
def test_one_signer_is_named(run: Run, checkpoint: Path, options: tuple[str, ...]) -> None:
    ran = run("verify", checkpoint, *options)
    assert ran.code == 2
    assert "name one signer" in ran.err


def test_a_signer_of_sigstore_has_an_identity_and_an_issuer(run: Run, checkpoint: Path) -> None:
    ran = run("validate", checkpoint, "--signed-by", "sigstore:me@example.org")
    assert ran.code == 2
    assert "sigstore:IDENTITY,ISSUER" in ran.err
