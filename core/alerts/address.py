"""Where a webhook may lead: https to the public internet, and into one's own network only where that is said.

Whoever writes the address has this machine ask it, so it is checked as written, and once more as its name resolves
right before each message; the connection goes to the address that was checked.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

from core.errors import BadInput, Unreachable

IP = IPv4Address | IPv6Address

_LONGEST = 2000
# What tells a cloud's machine its own secrets, at addresses that are not all link-local: never a webhook.
_NEVER = tuple(
    map(ip_network, ("169.254.0.0/16", "fe80::/10", "168.63.129.16/32", "100.100.100.200/32", "fd00:ec2::254/128"))
)
_NAT64 = ip_network("64:ff9b::/96")


@dataclass(frozen=True)
class Place:
    """A checked address, in the parts that a request is made of. path: with its query, in which a secret may stand."""

    host: str
    port: int
    path: str
    is_tls: bool


def parse_address(url: str, *, inside: bool) -> Place:
    """Return the parts of a webhook's address; raises BadInput for one that is not used. inside: see `check_ip`."""
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        raise BadInput("This is no web address.", "Copy it whole from where the webhook was made.") from None
    host = (parts.hostname or "").rstrip(".")
    literal = _find_ip(host)
    loopback = host == "localhost" or (literal is not None and literal.is_loopback)
    if not host or not url.isascii() or not url.strip().isprintable() or " " in url.strip() or len(url) > _LONGEST:
        raise BadInput("This is no web address.", "Copy it whole from where the webhook was made.")
    if parts.scheme != "https" and not (parts.scheme == "http" and loopback):
        raise BadInput("A webhook's address begins with https.", "Without it everyone on the way could read it.")
    if parts.username is not None or parts.password is not None:
        raise BadInput("A name or password in the address is not used.", "Leave out what stands before the @.")
    if literal is not None or loopback:
        check_ip(literal or ip_address("127.0.0.1"), host, inside=inside)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Place(host, port or (443 if parts.scheme == "https" else 80), path, parts.scheme == "https")


def resolve(place: Place, *, inside: bool) -> str:
    """Return the address that a webhook's name leads to now; raises BadInput where one of them is not allowed."""
    try:
        found = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
    except OSError:
        raise Unreachable(
            f"The name {place.host} leads nowhere.", "Check the address and this machine's DNS."
        ) from None
    addresses = [str(each[4][0]) for each in found]
    for each in addresses:
        check_ip(ip_address(each.partition("%")[0]), place.host, inside=inside)
    return addresses[0]


def check_ip(found: IP, host: str, *, inside: bool) -> None:
    """Raise BadInput where no webhook may be. inside: whether the operator's own network is allowed."""
    ip = _unwrap(found)
    if any(ip in network for network in _NEVER) or ip.is_multicast or ip.is_unspecified:
        raise BadInput(f"{host} leads to {ip}, which is no webhook.", "Give the address of the service itself.")
    if not ip.is_global and not inside:
        raise BadInput(f"{host} leads into a private network.", 'Tick "Inside my network" if that is meant.')


def _unwrap(ip: IP) -> IP:
    """Return the IPv4 address that stands inside an IPv6 one, where one does."""
    if isinstance(ip, IPv4Address):
        return ip
    wrapped = IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None
    return ip.ipv4_mapped or ip.sixtofour or wrapped or ip


def _find_ip(host: str) -> IP | None:
    try:
        return ip_address(host)
    except ValueError:
        return None
