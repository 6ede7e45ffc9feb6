"""Numbers, times and sizes as the screens write them."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

from core.words import duration
from core.words import exact as exact
from core.words import number as number
from core.words import plural as plural
from core.words import plural_is as plural_is
from core.words import size as size
from core.words import visible as visible

_ESCAPED = str.maketrans({character: "\\" + character for character in "\\`*_{}[]()#+!|<>~$:@."})
_ADDRESS = re.compile(r"(?<=:)(?=//)|(?<=www)(?=\.)|(?=@)", re.IGNORECASE)


def plain(text: object) -> str:
    """Return `text` so that Markdown shows it letter by letter; for labels that cannot be `st.text`.

    An address in it is no link either: those are found after the escapes are undone, so they are parted unseen.
    """
    return _ADDRESS.sub("\u2060", str(text)).translate(_ESCAPED).replace("\n", " ")


def format_loss(value: float | None) -> str:
    """Return three significant digits: 1.02, 0.0412."""
    if value is None:
        return "no value"
    if value != value:
        return "NaN"
    return f"{value:#.3g}".rstrip(".") if abs(value) < 1000 else f"{value:,.0f}"


def format_rate(value: float | None) -> str:
    """0.002 -> "2e-3"."""
    if value is None:
        return "no value"
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def amount(value: float) -> str:
    """207865 -> "207,865"; 1234567 -> "1.23 M"."""
    if value < 999_500:
        return number(value)
    millions = value / 1e6
    return f"{number(millions) if millions >= 99.95 else f'{millions:.3g}'} M"


def milliseconds(value: float) -> str:
    """77.4 -> "77 ms"; 12345 -> "12.3 s"."""
    return f"{value:,.0f} ms" if value < 9999.5 else f"{value / 1000:,.1f} s"


def age(age_s: float | None) -> str:
    """Return "updated 2 s ago", or "not read yet"."""
    if age_s is None:
        return "not read yet"
    return "updated now" if age_s < 1 else f"updated {duration(age_s)} ago"


def moment(at: datetime | str | float | None) -> str:
    """Return "22 Nov 15:02 UTC" for a time, an ISO text or seconds since 1970."""
    found = to_utc(at)
    return f"{found.day} {found:%b %H:%M} UTC" if found else "unknown"


def clock(at: datetime | str | float | None) -> str:
    """Return "15:02:11 UTC"."""
    found = to_utc(at)
    return f"{found:%H:%M:%S} UTC" if found else "unknown"


def since(at: datetime | str | float | None) -> float:
    """Return the seconds that passed since `at`; 0 where it is unknown."""
    found = to_utc(at)
    return max(0.0, time.time() - found.timestamp()) if found else 0.0


def to_utc(at: datetime | str | float | None) -> datetime | None:
    """Return a time in UTC; a time without a zone is taken as UTC."""
    if at is None or at == "":
        return None
    if isinstance(at, int | float):
        return datetime.fromtimestamp(at, UTC)
    found = datetime.fromisoformat(at) if isinstance(at, str) else at
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
