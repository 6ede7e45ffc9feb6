"""The certificates of the TLS listener: a CA of the home and a certificate of 127.0.0.1, made on first use.

The CA may vouch for this machine's loopback alone (name constraints, critical), so that who trusts it trusts nothing
else by it. Keys are readable by the owner only.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import certifi
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from core.home import Home, write_atomically

CA_LIFETIME = timedelta(days=3650)
LEAF_LIFETIME = timedelta(days=397)  # what strict clients take at most
RENEW_BEFORE = timedelta(days=30)
_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)
_LOOPBACK = ipaddress.IPv4Address("127.0.0.1")


@dataclass(frozen=True)
class Certificates:
    """Where the certificates of a home lie. `bundle` is the CA and whatever the machine's Python trusts besides."""

    folder: Path

    @property
    def ca(self) -> Path:
        """The CA's certificate."""
        return self.folder / "ca.pem"

    @property
    def bundle(self) -> Path:
        """The CA and the usual public CAs, for programs that talk to others as well."""
        return self.folder / "bundle.pem"

    @property
    def server(self) -> Path:
        """Key and certificate of the server, 0600."""
        return self.folder / "server.pem"

    def server_context(self) -> ssl.SSLContext:
        """Return the context of the listener."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.server)
        return context


def ensure_certificates(home: Home) -> Certificates:
    """Return the certificates of a home; what is missing, or soon no longer valid, is made."""
    found = Certificates(home.path / "tls")
    found.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    until = datetime.now(UTC) + RENEW_BEFORE
    ca_key = found.folder / "ca-key.pem"
    if not ca_key.exists() or _expiry_of(found.ca) < until:
        key, certificate = _make_ca()
        write_atomically(ca_key, _pem_of(key), 0o600)
        write_atomically(found.ca, _text_of(certificate))
        found.server.unlink(missing_ok=True)
    if _expiry_of(found.server) < until:
        key, certificate = _make_leaf(ca_key, found.ca)
        write_atomically(found.server, _pem_of(key) + _text_of(certificate), 0o600)
    write_atomically(found.bundle, "\n".join([_trusted_besides(found), found.ca.read_text(encoding="ascii")]))
    return found


def _trusted_besides(own: Certificates) -> str:
    """Return what Python's programs trust otherwise: a bundle that the operator chose, else certifi's."""
    chosen = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE")
    path = Path(chosen) if chosen and Path(chosen).is_file() and Path(chosen) != own.bundle else Path(certifi.where())
    return path.read_text(encoding="utf-8")


def _make_ca() -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _named("Tunedeck local workspace")
    network = x509.IPAddress(ipaddress.IPv4Network("127.0.0.0/8"))
    allowed = x509.NameConstraints([network, x509.DNSName("localhost")], None)
    usage = _usage(key_cert_sign=True, crl_sign=True)
    extensions = [(x509.BasicConstraints(ca=True, path_length=0), True), (allowed, True), (usage, True)]
    return key, _sign(name, key.public_key(), name, key, CA_LIFETIME, extensions)


def _make_leaf(ca_key: Path, ca: Path) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    issuer = x509.load_pem_x509_certificate(ca.read_bytes())
    issuer_key = serialization.load_pem_private_key(ca_key.read_bytes(), password=None)
    assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.IPAddress(_LOOPBACK), x509.DNSName("localhost")])
    extensions = [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (names, False),
        (_usage(digital_signature=True), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), False),
    ]
    return key, _sign(_named("127.0.0.1"), key.public_key(), issuer.subject, issuer_key, LEAF_LIFETIME, extensions)


def _sign(
    subject: x509.Name,
    public: ec.EllipticCurvePublicKey,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    lifetime: timedelta,
    extensions: Sequence[tuple[x509.ExtensionType, bool]],
) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(issuer, subject, public, x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + lifetime)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(key, hashes.SHA256())


def _usage(**used: bool) -> x509.KeyUsage:
    return x509.KeyUsage(**{name: used.get(name, False) for name in _USAGES})


def _named(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _expiry_of(path: Path) -> datetime:
    """Return until when the certificate in a file is valid; the beginning of time where there is none."""
    try:
        return x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
    except (FileNotFoundError, ValueError):
        return datetime.min.replace(tzinfo=UTC)


def _pem_of(key: ec.EllipticCurvePrivateKey) -> str:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption()).decode()


def _text_of(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
