"""Recognises numbers that name a person or an account, by their checksums or a form that nothing else has.

A number whose checksum one in ten others passes counts only behind a word that says what it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date

_SSN = re.compile(r"(?<![\w.-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w-]|\.\d)")
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]{4}){2,7}(?:[ -]?[A-Z0-9]{1,3})?(?![A-Za-z0-9])")
_IBAN_LENGTHS = {
    **dict.fromkeys(("NO",), 15),
    **dict.fromkeys(("BE",), 16),
    **dict.fromkeys(("DK", "FI", "NL"), 18),
    **dict.fromkeys(("AT", "EE", "KZ", "LT", "LU", "XK"), 20),
    **dict.fromkeys(("CH", "HR", "LI", "LV"), 21),
    **dict.fromkeys(("BG", "BH", "DE", "GB", "GE", "IE", "ME", "RS"), 22),
    **dict.fromkeys(("AE", "IL", "IQ"), 23),
    **dict.fromkeys(("AD", "CZ", "ES", "MD", "PK", "RO", "SA", "SE", "SK", "TN"), 24),
    **dict.fromkeys(("PT",), 25),
    **dict.fromkeys(("IS", "TR"), 26),
    **dict.fromkeys(("FR", "GR", "IT", "MC", "SM"), 27),
    **dict.fromkeys(("AL", "AZ", "BY", "CY", "DO", "HU", "LB", "PL"), 28),
    **dict.fromkeys(("BR", "EG", "PS", "QA", "UA"), 29),
    **dict.fromkeys(("JO", "KW", "MU"), 30),
    **dict.fromkeys(("MT",), 31),
}
_SPANISH = re.compile(
    r"(?<![\w.-])(?:([XYZ])[ -]?)?(\d{1,2}(?:\.?\d{3}){2}|\d{7,8})-?([A-HJ-NP-TV-Z])(?![\w-])"
)  # DNI: 8 digits and a letter; NIE: X, Y or Z, 7 digits and a letter
_LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"
_CHINESE = re.compile(
    r"(?<![A-Za-z0-9.-])[1-8]\d{5}(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{3}[\dXx](?![A-Za-z0-9-])"
)
_BRAZILIAN = re.compile(r"(?<![\d.-])\d{3}\.\d{3}\.\d{3}-\d{2}(?![\d-])")
_UKRAINIAN = re.compile(r"(?<![\d.-])\d{10}(?![\d-]|\.\d)")
_UKRAINIAN_WORDS = re.compile(
    r"РНОКПП|\bІПН\b|\bІНН\b|\bИНН\b|\bRNOKPP\b|\bINN\b|\bTIN\b|ідентифікаційн\w+ (?:код|номер)|податков\w+ номер|"
    r"код\w* платника|налогов\w+ номер|tax(?:payer)?(?:'s)? (?:id|identification|number)",
    re.IGNORECASE,
)
_NEAR = 60  # characters before a number in which a word says what it is


def find_identity(text: str) -> str:
    """Return what kind of number a text holds, "" if none; never the number."""
    return next((kind for kind, holds in _KINDS.items() if holds(text)), "")


def _has_ssn(text: str) -> bool:
    return _SSN.search(text) is not None


def _has_iban(text: str) -> bool:
    return any(_is_iban(match[0].replace(" ", "").replace("-", "")) for match in _IBAN.finditer(text))


def _is_iban(number: str) -> bool:
    """ISO 13616: the country's length, and a remainder of 1 by 97."""
    length = _IBAN_LENGTHS.get(number[:2], 0)
    moved = number[4:length] + number[:4]
    return 0 < length <= len(number) and int("".join(str(int(sign, 36)) for sign in moved)) % 97 == 1


def _has_spanish(text: str) -> bool:
    for match in _SPANISH.finditer(text):
        foreign, digits = match[1], match[2].replace(".", "")
        number = int(f"{'XYZ'.index(foreign)}{digits}" if foreign else digits)
        if len(digits) == (7 if foreign else 8) and _LETTERS[number % 23] == match[3]:
            return True
    return False


def _has_chinese(text: str) -> bool:
    return any(_is_chinese(match[0]) for match in _CHINESE.finditer(text))


def _is_chinese(number: str) -> bool:
    """GB 11643: a date of birth, and ISO 7064's check character by 11."""
    try:
        born = date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        return False
    total = sum(int(digit) * (1 << 17 - at) for at, digit in enumerate(number[:17]))
    return born.year > 1900 and "10X98765432"[total % 11] == number[17].upper()


def _has_brazilian(text: str) -> bool:
    return any(_is_cpf([int(sign) for sign in match[0] if sign.isdigit()]) for match in _BRAZILIAN.finditer(text))


def _is_cpf(digits: list[int]) -> bool:
    for count in (9, 10):
        total = sum(digit * (count + 1 - at) for at, digit in enumerate(digits[:count]))
        if total * 10 % 11 % 10 != digits[count]:
            return False
    return len(set(digits)) > 1


def _has_ukrainian(text: str) -> bool:
    return any(
        _is_rnokpp(match[0]) and _UKRAINIAN_WORDS.search(text, max(0, match.start() - _NEAR), match.start())
        for match in _UKRAINIAN.finditer(text)
    )


def _is_rnokpp(number: str) -> bool:
    weights = (-1, 5, 7, 9, 4, 6, 10, 5, 7)
    total = sum(int(digit) * weight for digit, weight in zip(number, weights, strict=False))
    return total % 11 % 10 == int(number[9])


_KINDS: dict[str, Callable[[str], bool]] = {
    "an IBAN": _has_iban,
    "a US social security number": _has_ssn,
    "a Chinese resident's number": _has_chinese,
    "a Spanish DNI or NIE": _has_spanish,
    "a Brazilian CPF": _has_brazilian,
    "a Ukrainian taxpayer's number": _has_ukrainian,
}
