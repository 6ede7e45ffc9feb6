"""Looks for what needs a look in the texts of messages: personal data, credentials, leftovers, garbled characters.

A pattern is tried only on texts that pass a cheaper test.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import numpy

from core.dataset.checks.credentials import find_connection_string, find_key, find_sas_token
from core.dataset.checks.identity_numbers import find_identity
from core.dataset.checks.leftovers import BIDIRECTIONAL, find_base64, find_placeholder, find_prompt_marker
from core.dataset.findings import flag

# Not: git@github.com, icon@2x.png, a product of matrices a@b.transpose().
EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+-])(?!git@)[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@(?!\dx\.)(?:[A-Za-z0-9-]{1,63}\.)+"
    r"[A-Za-z]{2,24}\b(?!\()"
)
_LOGIN = re.compile(r"://[^\s/@]*\Z")
PHONE = re.compile(
    r"(?<![\w.+-])(?:\+\d{9,15}|(?:\+\d{1,3}[ .-]?)?(?:\(\d{2,4}\)[ .-]?)?\d{2,8}(?:[ .-]\d{2,8}){1,4})"
    r"(?![\w.-]?\d)"
)
_LOCAL = re.compile(r"\d{3}[ .-]\d{3}[ .-]\d{4}|1[3-9]\d[ -]\d{4}[ -]\d{4}")  # of America, of China
_DATE = re.compile(r"\d{3}-\d{2}-\d{4}\Z|\d{1,2}[ .-]\d{1,2}[ .-]\d{4}|\d{4}[.-]\d{2}[.-]\d{2}")
CARD = re.compile(r"(?<![A-Za-z\d_.-])\d(?:[ -]?\d){12,18}(?![A-Za-z_]|[\d.-]?\d)")  # no part of a hash in hex
# ftfy is imported where it is needed: 0.1 s, and few files are garbled.
# UTF-8 that was read as Windows-1252 or Latin-1: the letter of a lead byte, then that of a continuation byte.
_REPLACED = ("\ufffd", "ï¿½", "пїЅ")  # the replacement character, and how it looks when it is garbled itself
_CYRILLIC = re.compile(r"(?!(.)\1{4})[À-ÖØ-öø-ÿ]{5}")  # read as Latin-1: no language has five such letters in a row
_GARBLED = re.compile("[ÂÃâðÐÑÎÏ×ØÙÅÄã][\x80-\xbf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]")


def check_texts(texts: Sequence[str]) -> list[int]:
    """Return the flags of what is suspected in each text, that of one message.

    Searches the bytes of all texts at once for what every match must hold (an "@", nine digits close together, 16
    characters without a space, the letter of a lead byte); the patterns see only the texts that have it.
    """
    parts = [text.encode("utf-8", "replace") for text in texts]
    codes = numpy.frombuffer(b" ".join(parts) + _TAIL, numpy.uint8)
    starts = numpy.concatenate(([0], numpy.cumsum([len(part) + 1 for part in parts])[:-1])) if parts else numpy.zeros(1)
    flags = [0] * len(texts)
    for name, places in _suspicious(codes).items():
        for number in numpy.unique(numpy.searchsorted(starts, places, "right") - 1).tolist():
            for code in _TESTS[name]:
                if FINDERS[code](texts[number]):
                    flags[number] |= _FLAGS[code]
    return flags


def find_suspected(text: str, code: str) -> str:
    """Return what is suspected in a text, as the end of "holds …", "" if nothing.

    Addresses and numbers are shortened, so that they are not spread; of a key or an identity number only its kind.
    """
    return FINDERS[code](text)


def is_garbled(text: str) -> bool:
    """Tell whether a text shows UTF-8 that was read as another encoding, or a replacement character."""
    if any(sign in text for sign in _REPLACED) or _CYRILLIC.search(text):
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
    return number.lstrip().startswith(("+", "(", "0")) or _LOCAL.fullmatch(number) is not None


@cache
def _badness() -> Any:
    from ftfy.badness import is_bad

    return is_bad


def _suspicious(codes: Any) -> dict[str, Any]:
    """Return the places in the bytes where a match is possible, by test. codes: ends with _TAIL."""
    digits = numpy.flatnonzero((codes - numpy.uint8(48)) < 10)
    spaces = numpy.flatnonzero(codes <= 32)
    gaps = numpy.diff(spaces)
    leads = numpy.flatnonzero(codes >= 0xC3)
    lead, second, third = codes[leads], codes[leads + 1], codes[leads + 2]
    return {
        "digits": digits[:-8][digits[8:] - digits[:-8] <= 24],
        "digit_run": digits[:-6][digits[6:] - digits[:-6] <= 8],
        "key": spaces[1:][gaps > 16] - 1,
        "long_run": _sampled_runs(codes, spaces, gaps),
        "garbled": leads[(lead == 0xC3) & _LEADS[second]],
        "replaced": leads[((lead == 0xEF) & (second == 0xBF) & (third == 0xBD)) | ((lead == 0xD0) & (second == 0x85))],
        "turned": leads[(lead == 0xE2) & (second & 0xFE == 0x80) & _TURNING[(second & 1) * 128 + (third & 127)]],
        **_signs(codes),
    }


def _signs(codes: Any) -> dict[str, Any]:
    """Return the places of signs that begin or end what is looked for, by what stands beside them."""
    some = (codes - numpy.uint8(58) < 4) | (codes | 32 == 123)  # : ; < =, and [ or {: a table would take twice as long
    places = numpy.flatnonzero(some | (codes == 64) | (codes == 35))  # @, #
    signs, after = codes[places], codes[places + 1]
    pairs = codes[places - 2].astype(numpy.uint16) << 8 | codes[places - 1]
    return {
        "at": places[signs == ord("@")],
        "brace": places[(signs == ord("{")) & (after == ord("{"))],
        "bracket": places[(signs == ord("[")) & _table("I/YNFLCUPEO")[after]],
        "angle": places[(signs == ord("<")) & _table("|<sepiyIYE\xef")[after]],
        "closing": places[(signs == ord("<")) & (after == ord("/")) & (codes[places + 2] == ord("s"))],
        "encoded": places[(signs == ord(";")) & (after == ord("b"))],
        "heading": places[(signs == ord("#")) & (after == ord(" ")) & _table("IHAURS")[codes[places + 2]]],
        "turns": places[(signs == ord(":")) & _pairs("an", "nt", "AN", "NT", "AI")[pairs]],
        "secret": places[(signs == ord("=")) & _pairs("ig", "ey", "rd", "RD", "wd", "WD")[pairs]],
    }


def _sampled_runs(codes: Any, spaces: Any, gaps: Any) -> Any:
    """Return places in words of over 60 bytes where two samples in a row, 50 bytes apart, can be of base64.

    The samples tell base64 from Chinese, which has no spaces either.
    """
    if not (gaps > 60).any():
        return spaces[:0]
    samples = _BASE64[codes[::_STRIDE]]
    places = numpy.flatnonzero(samples[:-1] & samples[1:]) * _STRIDE
    after = numpy.searchsorted(spaces, places)
    return places[(after > 0) & (gaps[after - 1] > 60)]


@cache
def _pairs(*pairs: str) -> Any:
    table = numpy.zeros(1 << 16, bool)
    table[[int.from_bytes(pair.encode()) for pair in pairs]] = True
    return table


@cache
def _table(signs: str) -> Any:
    table = numpy.zeros(256, bool)
    table[[ord(sign) for sign in signs]] = True
    return table


def _find_garbled(text: str) -> str:
    if not is_garbled(text):
        return ""
    places = [text.find(sign) for sign in _REPLACED if sign in text]
    places += [match.start() for pattern in (_CYRILLIC, _GARBLED) if (match := pattern.search(text))]
    return repr(text[max(0, places[0] - 10) : places[0] + 12])


def _find_email(text: str) -> str:
    """Return the first address; what stands before an "@" in an address of the web is a password, and no name."""
    hits = EMAIL.finditer(text)
    return _shorten(hit[0] for hit in hits if not _LOGIN.search(text, max(0, hit.start() - 200), hit.start()))


def _find_phone(text: str) -> str:
    return _shorten(match[0] for match in PHONE.finditer(text) if _is_phone(match[0]))


def _find_card(text: str) -> str:
    return _shorten(match[0] for match in CARD.finditer(text) if passes_checksum(match[0]))


def _find_turning(text: str) -> str:
    match = BIDIRECTIONAL.search(text)
    return f"U+{ord(match[0]):04X}" if match else ""


def _shorten(hits: Iterator[str]) -> str:
    hit = next(hits, "")
    return repr(hit[:3] + "…" + hit[-2:]) if hit else ""


_LEADS = numpy.zeros(256, bool)  # second bytes of the letters of _GARBLED, whose first is 0xC3
_LEADS[[letter.encode()[1] for letter in "ÂÃâðÐÑÎÏ×ØÙÅÄãï"]] = True
_TURNING = numpy.zeros(256, bool)  # third bytes of U+202A to U+202E, and of U+2066 to U+2069 in the other half
_TURNING[0x2A:0x2F] = _TURNING[128 + 0x26 : 128 + 0x2A] = True
_TAIL = b"    "  # what is looked at behind the last place
_STRIDE = 50
_BASE64 = _table("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
FINDERS: dict[str, Callable[[str], str]] = {
    "mojibake": _find_garbled,
    "email": _find_email,
    "phone": _find_phone,
    "card_number": _find_card,
    "secret_key": find_key,
    "sas_token": find_sas_token,
    "connection_string": find_connection_string,
    "identity_number": find_identity,
    "prompt_marker": find_prompt_marker,
    "bidirectional": _find_turning,
    "placeholder": find_placeholder,
    "inline_base64": find_base64,
}
_FLAGS = {code: flag(code) for code in FINDERS}
_TESTS: dict[str, tuple[str, ...]] = {
    "at": ("email", "connection_string"),
    "digits": ("phone", "card_number"),
    "digit_run": ("identity_number",),
    "key": ("secret_key",),
    "long_run": ("inline_base64",),
    "encoded": ("inline_base64",),
    "garbled": ("mojibake",),
    "replaced": ("mojibake",),
    "turned": ("bidirectional",),
    "brace": ("placeholder",),
    "bracket": ("placeholder", "prompt_marker"),
    "angle": ("placeholder", "prompt_marker"),
    "closing": ("prompt_marker",),
    "heading": ("prompt_marker",),
    "turns": ("prompt_marker",),
    "secret": ("sas_token", "connection_string"),
}
