"""What is odd about the text of a conversation: garbled characters, and what looks like personal data. Knows no files.

Every pattern is tried only where a cheaper test leaves it possible: most rows hold no "@", no long digits and no key.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from core.dataset.findings import flag

EMAIL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}\b")
PHONE = re.compile(r"(?<![\w.+-])(?:\+\d{1,3}[ .-]?)?(?:\(\d{2,4}\)[ .-]?)?\d{2,4}(?:[ .-]\d{2,4}){2,4}(?![\w.-]?\d)")
CARD = re.compile(r"(?<![\d.-])\d(?:[ -]?\d){12,18}(?![\d.-]?\d)")
KEY = re.compile(
    r"\b(?:sk-(?:proj-|ant-)?[A-Za-z0-9_-]{20,}|AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36,}|github_pat_\w{22,}|"
    r"hf_[A-Za-z0-9]{30,}|xox[abprs]-[A-Za-z0-9-]{10,}|AIza[0-9A-Za-z_-]{35}|"
    r"eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,})"
    r"|-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----|AccountKey=[A-Za-z0-9+/]{40,}={0,2}"
)
_KEY_MARKS = ("sk-", "AKIA", "gh", "hf_", "xox", "AIza", "eyJ", "-----BEGIN", "AccountKey=")
# Three groups of digits, or thirteen in a row: what a phone or card number cannot be without.
_DIGITS = re.compile(r"\d[\d ().-]{5,}\d")
# What UTF-8 read as Windows-1252 or Latin-1 leaves behind: a lead byte's letter, then a continuation byte's.
_GARBLED = re.compile("[ÂÃâ€ÐÑÎÏ×ØÙÅÄã][\x80-\xbf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]|�")
_FLAGS = {name: flag(name) for name in ("mojibake", "email", "phone", "card_number", "secret_key")}


def check_text(text: str) -> int:
    """Return the flags of what is suspected in a conversation's text."""
    found = 0
    if not text.isascii() and is_garbled(text):
        found |= _FLAGS["mojibake"]
    if "@" in text and EMAIL.search(text):
        found |= _FLAGS["email"]
    if _DIGITS.search(text):
        if any(_is_phone(one[0]) for one in PHONE.finditer(text)):
            found |= _FLAGS["phone"]
        if any(passes_checksum(one[0]) for one in CARD.finditer(text)):
            found |= _FLAGS["card_number"]
    if any(mark in text for mark in _KEY_MARKS) and KEY.search(text):
        found |= _FLAGS["secret_key"]
    return found


def find_suspected(text: str, code: str) -> str:
    """Return what was suspected, for an example: an address or a number shown short, so that it is not spread."""
    if code == "mojibake":
        found = _GARBLED.search(text)
        return text[max(0, found.start() - 10) : found.end() + 10] if found else ""
    patterns: dict[str, tuple[re.Pattern[str], Any]] = {
        "email": (EMAIL, None), "phone": (PHONE, _is_phone), "card_number": (CARD, passes_checksum),
        "secret_key": (KEY, None),
    }  # fmt: skip
    pattern, test = patterns[code]
    hits = (one[0] for one in pattern.finditer(text))
    hit = next((one for one in hits if test is None or test(one)), "")
    return hit[:3] + "…" + hit[-2:] if len(hit) > 6 else hit


def is_garbled(text: str) -> bool:
    """Tell whether a text shows UTF-8 that was read as another encoding, or a replacement character."""
    if "\ufffd" in text:
        return True
    return _GARBLED.search(text) is not None and _badness()(text)


def restore(text: str) -> str:
    """Return a text with garbled characters as they were meant; as it is where that is not certain."""
    if text.isascii() or not is_garbled(text):
        return text
    import ftfy

    return ftfy.fix_encoding(text)


def passes_checksum(number: str) -> bool:
    """Tell whether the digits pass Luhn's check and begin as a card's do."""
    digits = [int(one) for one in number if one.isdigit()]
    if not 13 <= len(digits) <= 19 or digits[0] not in (2, 3, 4, 5, 6) or len(set(digits)) < 3:
        return False
    doubled = (one if at % 2 == 0 else one * 2 - 9 * (one > 4) for at, one in enumerate(reversed(digits)))
    return sum(doubled) % 10 == 0


def _is_phone(number: str) -> bool:
    digits = sum(one.isdigit() for one in number)
    if not 9 <= digits <= 15 or len({one for one in number if one.isdigit()}) < 3:
        return False
    return number.lstrip().startswith(("+", "(", "0")) or re.fullmatch(r"\d{3}[ .-]\d{3}[ .-]\d{4}", number) is not None


@cache
def _badness() -> Any:
    from ftfy.badness import is_bad

    return is_bad
