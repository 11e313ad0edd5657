"""Certificates for demonstrations: an authority, a server, and silos, each with a key of its own on curve P-384.

On real hosts keys are made where they stay, and only requests travel: docs/how-to/silos.md says how, with openssl.
"""

import datetime
import ipaddress
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAYS = 30


def make(directory: Path, silos: Sequence[str], host: str, days: float = DAYS) -> list[Path]:
    """Write ca.pem, server.pem, server.key, and NAME.pem and NAME.key for every silo; files that exist are kept.

    Args:
        directory: which is made.
        silos: names.
        host: name or address that silos dial.
        days: that certificates are good for; negative ones have expired.

    Returns:
        What was written.

    Raises:
        FileExistsError: if one of the files is there.
    """
    parties = {"server": ExtendedKeyUsageOID.SERVER_AUTH} | dict.fromkeys(silos, ExtendedKeyUsageOID.CLIENT_AUTH)
    paths = [directory / "ca.pem", *(directory / f"{name}{end}" for name in parties for end in (".key", ".pem"))]
    for path in paths:
        if path.exists():
            raise FileExistsError(f"{path} exists: name another directory")
    directory.mkdir(parents=True, exist_ok=True)
    authority = ec.generate_private_key(ec.SECP384R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "demonstration authority")])
    root = _builder(subject, subject, authority.public_key(), abs(days)).add_extension(
        x509.BasicConstraints(ca=True, path_length=0), critical=True
    )
    paths[0].write_bytes(root.sign(authority, hashes.SHA384()).public_bytes(serialization.Encoding.PEM))
    for name, usage in parties.items():
        key = ec.generate_private_key(ec.SECP384R1())
        named = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        made = _builder(named, subject, key.public_key(), days)
        made = made.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        made = made.add_extension(x509.ExtendedKeyUsage([usage]), critical=True)
        made = made.add_extension(
            x509.SubjectAlternativeName([_alternative(host if name == "server" else name)]), critical=False
        )
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        file = directory / f"{name}.key"
        file.touch(mode=0o600)
        file.write_bytes(secret)
        (directory / f"{name}.pem").write_bytes(
            made.sign(authority, hashes.SHA384()).public_bytes(serialization.Encoding.PEM)
        )
    return paths


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: float
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    start, end = sorted((now - datetime.timedelta(hours=1), now + datetime.timedelta(days=days)))
    if days < 0:
        start, end = start - datetime.timedelta(days=1), now - datetime.timedelta(minutes=1)
    return (
        x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
        .serial_number(x509.random_serial_number()).not_valid_before(start).not_valid_after(end)
    )  # fmt: skip


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
