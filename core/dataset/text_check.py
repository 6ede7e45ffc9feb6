"""Looks for garbled characters and personal data in the text of conversations.

A pattern is tried only on texts that pass a cheaper test.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy

from core.dataset.findings import flag

EMAIL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}\b")
PHONE = re.compile(r"(?<![\w.+-])(?:\+\d{1,3}[ .-]?)?(?:\(\d{2,4}\)[ .-]?)?\d{2,8}(?:[ .-]\d{2,8}){1,4}(?![\w.-]?\d)")
_DATE = re.compile(r"\d{1,2}[ .-]\d{1,2}[ .-]\d{4}|\d{4}[.-]\d{2}[.-]\d{2}")
CARD = re.compile(r"(?<![\d.-])\d(?:[ -]?\d){12,18}(?![\d.-]?\d)")
KEY = re.compile(
    r"\b(?:sk-(?:proj-|ant-)?[A-Za-z0-9_-]{20,}|AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36,}|github_pat_\w{22,}|"
    r"hf_[A-Za-z0-9]{30,}|xox[abprs]-[A-Za-z0-9-]{10,}|AIza[0-9A-Za-z_-]{35}|"
    r"eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,})"
    r"|-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----|AccountKey=[A-Za-z0-9+/]{40,}={0,2}"
)
# ftfy is imported where it is needed: 0.1 s, and few files are garbled.
# UTF-8 that was read as Windows-1252 or Latin-1: the letter of a lead byte, then that of a continuation byte.
_GARBLED = re.compile("[ÂÃâðÐÑÎÏ×ØÙÅÄã][\x80-\xbf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]|�")
_FLAGS = {name: flag(name) for name in ("mojibake", "email", "phone", "card_number", "secret_key")}


def check_texts(texts: Sequence[str]) -> list[int]:
    """Return the flags of what is suspected in each conversation's text.

    Searches the bytes of all texts at once for what every match must hold (an "@", nine digits close together, 16
    characters without a space, the letter of a lead byte); the patterns see only the texts that have it.
    """
    parts = [text.encode("utf-8", "replace") for text in texts]
    codes = numpy.frombuffer(b" ".join(parts) + b" ", numpy.uint8)
    starts = numpy.concatenate(([0], numpy.cumsum([len(part) + 1 for part in parts])[:-1])) if parts else numpy.zeros(1)
    flags = [0] * len(texts)
    for name, places in _suspicious(codes).items():
        for number in numpy.unique(numpy.searchsorted(starts, places, "right") - 1).tolist():
            for code, test in _TESTS[name]:
                if test(texts[number]):
                    flags[number] |= _FLAGS[code]
    return flags


def _suspicious(codes: Any) -> dict[str, Any]:
    """Return the places in the bytes where a match is possible, by test."""
    digits = numpy.flatnonzero((codes - numpy.uint8(48)) < 10)
    spaces = numpy.flatnonzero(codes <= 32)
    leads = numpy.flatnonzero(codes[:-1] == 0xC3)
    return {
        "email": numpy.flatnonzero(codes == 64),
        "digits": digits[:-8][digits[8:] - digits[:-8] <= 24],
        "key": spaces[1:][numpy.diff(spaces) > 16] - 1,
        "garbled": leads[_LEADS[codes[leads + 1]]],
        "replaced": numpy.flatnonzero((codes[:-2] == 0xEF) & (codes[1:-1] == 0xBF) & (codes[2:] == 0xBD)),
    }


def find_suspected(text: str, code: str) -> str:
    """Return what was suspected as an example; addresses and numbers are shortened, so that they are not spread."""
    if code == "mojibake":
        match = _GARBLED.search(text)
        return text[max(0, match.start() - 10) : match.end() + 10] if match else ""
    patterns: dict[str, tuple[re.Pattern[str], Any]] = {
        "email": (EMAIL, None),
        "phone": (PHONE, _is_phone),
        "card_number": (CARD, passes_checksum),
        "secret_key": (KEY, None),
    }
    pattern, test = patterns[code]
    hits = (hit[0] for hit in pattern.finditer(text))
    hit = next((hit for hit in hits if test is None or test(hit)), "")
    return hit[:3] + "…" + hit[-2:] if len(hit) > 6 else hit


def is_garbled(text: str) -> bool:
    """Tell whether a text shows UTF-8 that was read as another encoding, or a replacement character."""
    if "\ufffd" in text:
        return True
    return _GARBLED.search(text) is not None and _badness()(text)


def restore(text: str) -> str:
    """Return a text with its garbled characters restored, or unchanged if that is not certain."""
    if text.isascii() or not is_garbled(text):
        return text
    import ftfy

    return ftfy.fix_encoding(text)


def passes_checksum(number: str) -> bool:
    """Tell whether the digits pass Luhn's check and begin like a card's."""
    digits = [int(digit) for digit in number if digit.isdigit()]
    if not 13 <= len(digits) <= 19 or digits[0] not in (2, 3, 4, 5, 6) or len(set(digits)) < 2:
        return False
    doubled = (digit if at % 2 == 0 else digit * 2 - 9 * (digit > 4) for at, digit in enumerate(reversed(digits)))
    return sum(doubled) % 10 == 0


def _is_phone(number: str) -> bool:
    digits = sum(digit.isdigit() for digit in number)
    if not 9 <= digits <= 15 or _DATE.match(number) or len({digit for digit in number if digit.isdigit()}) < 3:
        return False
    return number.lstrip().startswith(("+", "(", "0")) or re.fullmatch(r"\d{3}[ .-]\d{3}[ .-]\d{4}", number) is not None


@cache
def _badness() -> Any:
    from ftfy.badness import is_bad

    return is_bad


def _has_phone(text: str) -> bool:
    return any(_is_phone(match[0]) for match in PHONE.finditer(text))


def _has_card(text: str) -> bool:
    return any(passes_checksum(match[0]) for match in CARD.finditer(text))


_LEADS = numpy.zeros(256, bool)  # second bytes of the letters of _GARBLED, whose first is 0xC3
_LEADS[[letter.encode()[1] for letter in "ÂÃâðÐÑÎÏ×ØÙÅÄã"]] = True
_TESTS: dict[str, tuple[tuple[str, Callable[[str], Any]], ...]] = {
    "email": (("email", EMAIL.search),),
    "digits": (("phone", _has_phone), ("card_number", _has_card)),
    "key": (("secret_key", KEY.search),),
    "garbled": (("mojibake", is_garbled),),
    "replaced": (("mojibake", is_garbled),),
}
