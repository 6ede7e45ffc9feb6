"""A certificate authority of one run, and the certificate by which the stand-in is each of Azure's hosts."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.azure.sites import PRICES, SITES

LIFE = timedelta(days=2)


@dataclass(frozen=True)
class Certificates:
    """Where they lie: the authority's certificate, for clients, and the server's with its key."""

    authority: Path
    server: Path

    def server_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.server)
        return context


def make_certificates(folder: Path, ahead: timedelta = timedelta()) -> Certificates:
    """Write both into a folder. ahead: by how much the server's is too new.

    The authority's key is thrown away: it signs nothing else, ever.
    """
    made = Certificates(folder / "authority.pem", folder / "server.pem")
    authority_key, server_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = _name("Stand-in for Azure")
    basic = x509.BasicConstraints(ca=True, path_length=0)
    known = x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key())
    root = _sign(authority, authority_key, authority, authority_key, basic, known, _SIGNS)
    names = x509.SubjectAlternativeName([x509.DNSName(name) for site in SITES for name in (*site.names, PRICES)])
    leaf = _sign(
        _name(PRICES),
        server_key,
        authority,
        authority_key,
        x509.BasicConstraints(ca=False, path_length=None),
        names,
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]),
        x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()),
        ahead=ahead,
    )
    form = serialization.PrivateFormat.PKCS8
    key = server_key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    made.authority.write_bytes(root.public_bytes(serialization.Encoding.PEM))
    made.server.write_bytes(key + leaf.public_bytes(serialization.Encoding.PEM))
    made.server.chmod(0o600)
    return made


_USES = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
_NO_USES = dict.fromkeys((*_USES, "encipher_only", "decipher_only"), False)
_SIGNS = x509.KeyUsage(key_cert_sign=True, crl_sign=True, **_NO_USES)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _sign(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    *extensions: x509.ExtensionType,
    ahead: timedelta = timedelta(),
) -> x509.Certificate:
    now = datetime.now(UTC) + ahead
    builder = x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + LIFE)
    for extension in extensions:
        critical = isinstance(extension, x509.BasicConstraints | x509.KeyUsage)
        builder = builder.add_extension(extension, critical)
    return builder.sign(issuer_key, hashes.SHA256())
