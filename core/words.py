"""Counts, durations and shares in words, for messages of core and for pages alike."""

from __future__ import annotations

# What a terminal, a browser or an eye would obey instead of reading: control characters and turns of the direction.
_UNSEEN = (
    {code: chr(0x2400 + code) for code in range(32) if code not in (9, 10)}
    | {code: f"\\x{code:02x}" for code in range(0x7F, 0xA0)}
    | {
        code: f"\\u{code:04x}"
        for first, last in (
            (0x61C, 0x61C),
            (0x200B, 0x200B),
            (0x200E, 0x200F),
            (0x2028, 0x202E),
            (0x2060, 0x206F),
            (0xD800, 0xDFFF),
            (0xFEFF, 0xFEFF),
            (0xFFF9, 0xFFFB),
        )
        for code in range(first, last + 1)
    }
)


def duration(seconds: float) -> str:
    """Return the two largest units, rounded before they are chosen: "41 s", "1 min 2 s", "3 h 5 min", "2 d 4 h"."""
    whole = max(0, round(seconds))
    for unit, length, below, rest in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= length:
            left = whole % length // rest
            return f"{whole // length} {unit}" + (f" {left} {below}" if left else "")
    return f"{whole} s"


def percent(share: float) -> str:
    """0.62 -> "62%"; never 100% before the end."""
    return f"{min(int(share * 100), 99 if share < 1 else 100)}%"


def number(value: float) -> str:
    """207865 -> "207,865"."""
    return f"{value:,.0f}"


def plural(count: int, noun: str, many: str = "") -> str:
    """(1, "error") -> "1 error"; (3, "error") -> "3 errors"."""
    return f"{number(count)} {noun if count == 1 else many or noun + 's'}"


def plural_is(count: int, noun: str = "") -> str:
    """(1, "row") -> "1 row is"; (3, "row") -> "3 rows are"; (3,) -> "3 are"."""
    return f"{plural(count, noun) if noun else number(count)} {'is' if count == 1 else 'are'}"


def size(size_bytes: float) -> str:
    """269_000_000 -> "269 MB"."""
    for unit in ("B", "kB", "MB"):
        if size_bytes < 999.5:
            return f"{size_bytes:.3g} {unit}" if size_bytes < 9.95 and unit != "B" else f"{size_bytes:.0f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} GB"


def exact(value: float) -> str:
    """Return every digit of a setting, as it is typed: 0.002 -> "2e-3", 0.9 -> "0.9"."""
    if value == 0 or 0.01 <= abs(value) < 1e6:
        return f"{value:.10g}"
    mantissa, _, exponent = f"{value:.9e}".partition("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def visible(text: str) -> str:
    """Return `text` with what cannot be seen written out: ESC as "␛", a turn of the direction as "\\u202e"."""
    return text.replace("\r\n", "\n").translate(_UNSEEN)
