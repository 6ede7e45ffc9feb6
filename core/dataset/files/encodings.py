"""Text in other encodings than UTF-8: which one it looks like, and how it becomes UTF-8. Reads a part at a time.

Judged is whether the letters that are not ASCII are those of one language, each in its usual case. charset_normalizer,
which is installed anyway, was tried: it took French and Portuguese for Windows-1250, and Japanese for Windows-1251.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from core.dataset.progress import Meter
from core.errors import BadInput

_BLOCK = 1 << 20
_SAMPLE_BYTES = 1 << 16  # of the lines that are not UTF-8, from which the encoding is told
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_WIDE = (  # without a mark, the first characters being ASCII
    (re.compile(rb"[\t-~]\0[\t-~]\0"), "utf-16-le"),
    (re.compile(rb"\0[\t-~]\0[\t-~]"), "utf-16-be"),
)
NO_UTF8 = re.compile("[\udc80-\udcff]")
"""A byte that is not UTF-8, as "surrogateescape" keeps it."""
_OTHER = re.compile("[^\0-\x7f]")
_LAST_LATIN = "\u024f"
_ENOUGH = 0.9  # of the characters that are not ASCII, in the letters of one language
_FEW_LINES = 3
_MANY_LINES = 0.1  # with bytes that are not UTF-8: the file is in another encoding, though none fits
_COMMON = "“”‘’‚„–—…«»€£°§·•©®™´½№×"
_NO_BREAK = "\u00a0"  # a space of Windows; elsewhere its byte is a letter or odd
_RUSSIAN, _UKRAINIAN = "абвгдеёжзийклмнопрстуфхцчшщъыьэюя", "абвгґдеєжзиіїйклмнопрстуфхцчшщьюя'"
_BALKAN = "абвгдђежзијклљмнњопрстћуфхцчџш"
_WESTERN = (
    "äöüß",
    "àâæçéèêëîïôœùûü",
    "áéíñóúü¿¡ªº",
    "áâãàçéêíóôõúüªº",
    "àèéìíîòóùú",
    "åäöé",
    "æøåéóò",
    "éëïóèüö",
    "áðéíóúýþæö",
    "àçéèíïóòúü",
)
_CENTRAL = (
    "ąćęłńóśźż",
    "áčďéěíňóřšťúůýž",
    "áäčďéíĺľňóôŕšťúýž",
    "áéíóöőúüű",
    "ăâîşţ",
    "čćđšž",
)
_CYRILLIC = (_RUSSIAN, _UKRAINIAN, "абвгдеёжзійклмнопрстуўфхцчшыьэюя", _BALKAN)


def _letters(begin: int, end: int) -> str:
    return "".join(map(chr, range(begin, end)))


@cache
def _two_bytes(codec: str, first: int, last: int) -> str:
    """Return the characters of these lead bytes: the common ones come first in the tables of Asia."""
    trails = (*range(0x40, 0x7F), *range(0xA1, 0xFF)) if codec == "big5" else range(0xA1, 0xFF)
    return "".join(bytes((lead, trail)).decode(codec, "ignore") for lead in range(first, last + 1) for trail in trails)


_KANA, _CJK_MARKS = _letters(0x3041, 0x3100), "、。！？：；，（）「」『』《》【】・～　…“”"
# Codec: its name, and the letters of the languages written in it. Where several fit as well, the first is taken.
_ENCODINGS: Mapping[str, tuple[str, Callable[[], tuple[str, ...]]]] = {
    "cp1252": ("Windows-1252", lambda: _WESTERN),
    "cp1250": ("Windows-1250", lambda: _CENTRAL),
    "cp1254": ("Windows-1254", lambda: ("çğıöşüâîûİ",)),
    "cp1257": ("Windows-1257", lambda: ("ąčęėįšųūž", "āčēģīķļņšūž", "äõöüšž")),
    "iso8859_2": ("ISO 8859-2", lambda: _CENTRAL),
    "mac_roman": ("Mac Roman", lambda: _WESTERN),
    "cp1253": ("Windows-1253", lambda: ("αβγδεζηθικλμνξοπρσςτυφχψωάέήίόύώϊϋ",)),
    "cp1255": ("Windows-1255", lambda: (_letters(0x5D0, 0x5EB),)),
    "cp1251": ("Windows-1251", lambda: _CYRILLIC),
    "koi8_u": ("KOI8-U", lambda: (_RUSSIAN, _UKRAINIAN)),
    "cp866": ("CP866", lambda: (_RUSSIAN, _UKRAINIAN)),
    "cp1256": ("Windows-1256", lambda: (_letters(0x621, 0x653) + "،؛؟پچژگ",)),
    "euc_kr": ("EUC-KR", lambda: (_letters(0xAC00, 0xD7A4) + _CJK_MARKS,)),
    "euc_jp": ("EUC-JP", lambda: (_KANA + _CJK_MARKS + _two_bytes("euc_jp", 0xB0, 0xCF),)),
    "cp932": ("Shift JIS", lambda: (_KANA + _CJK_MARKS + _two_bytes("euc_jp", 0xB0, 0xCF),)),
    "gb18030": ("GB 18030", lambda: (_CJK_MARKS + _two_bytes("gb18030", 0xB0, 0xD7),)),
    "big5": ("Big5", lambda: (_CJK_MARKS + _two_bytes("big5", 0xA4, 0xC6),)),
    "cp874": ("Windows-874", lambda: (_letters(0xE01, 0xE5C),)),
}
_JAPANESE, _LEAST_KANA = ("euc_jp", "cp932"), 0.2


@dataclass(frozen=True)
class Other:
    """What shows that a file is not UTF-8. encoding: the codec it looks like, "" where none fits."""

    encoding: str
    line: int
    byte: int

    @property
    def said(self) -> str:
        """Return it in words."""
        said = f"The file is not UTF-8: line {self.line:,} has the byte 0x{self.byte:02x}."
        return f"{said} It looks like {name_of(self.encoding)}." if self.encoding else said


def name_of(codec: str) -> str:
    """Return what people call a codec of Python's."""
    if codec.startswith("utf-"):
        return codec[:6].upper()
    return _ENCODINGS[codec][0] if codec in _ENCODINGS else codec


def find_mark(path: Path) -> str:
    """Return the codec that a byte order mark of UTF-16 or UTF-32 names, "" where there is none."""
    with path.open("rb") as file:
        start = file.read(4)
    return next((codec for mark, codec in _MARKS if start.startswith(mark)), "")


def find_wide(path: Path) -> Other | None:
    """Return what shows that a text is in UTF-16 without a mark."""
    with path.open("rb") as file:
        start = file.read(4)
    return next((Other(codec, 1, 0) for pattern, codec in _WIDE if pattern.match(start)), None)


def look(path: Path, all_of_it: bool = False) -> Other | None:
    """Return what shows that a text is in another encoding than UTF-8, None where it is UTF-8.

    all_of_it: also a few odd bytes show it; else a text that is UTF-8 but for these is taken for UTF-8.
    """
    if wide := find_wide(path):
        return wide
    lines = bad_lines = bad = good = 0
    first, sample = (0, 0), bytearray()
    for line, text in _numbered(path):
        lines = line
        if text.isascii():
            continue
        odd = NO_UTF8.findall(text)
        bad, bad_lines = bad + len(odd), bad_lines + bool(odd)
        good += len(_OTHER.findall(text)) - len(odd)
        if odd and not first[0]:
            first = line, ord(odd[0]) - 0xDC00
        if odd and len(sample) < _SAMPLE_BYTES:
            sample += text[:_SAMPLE_BYTES].encode("utf-8", "surrogateescape")
    many = bad_lines > _MANY_LINES * lines
    if not bad or (not all_of_it and (good >= bad or (bad_lines < _FEW_LINES and not many))):
        return None
    encoding = guess(bytes(sample)) if good < bad else ""
    return Other(encoding, *first) if encoding or all_of_it or many else None


def _numbered(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text with their numbers, very long ones in pieces."""
    number, ended = 0, True
    with path.open(encoding="utf-8", errors="surrogateescape") as file:
        while text := file.readline(_BLOCK):
            number += ended
            ended = text.endswith("\n")
            yield number, text


def guess(sample: bytes) -> str:
    """Return the codec that a text looks like, "" where none fits well enough."""
    fits = {codec: _judge(codec, sample) for codec in _ENCODINGS}
    best = max(fits, key=lambda codec: fits[codec])
    return best if fits[best] >= _ENOUGH else ""


def _judge(codec: str, sample: bytes) -> float:
    """Return how much of a text, read so, is letters of one language: at most 1."""
    text = sample.decode(codec, "replace")
    found = _OTHER.findall(text)
    if not found or (codec in _JAPANESE and sum(map(_KANA.__contains__, found)) < _LEAST_KANA * len(found)):
        return 0.0
    odd = sum(map(_is_odd, text, text[1:]))
    best = 0
    for letters in _ENCODINGS[codec][1]():
        known = frozenset(letters + letters.upper() + _COMMON + (_NO_BREAK if codec.startswith("cp125") else ""))
        best = max(best, sum(map(known.__contains__, found)))
    return (best - odd) / len(found)


def _is_odd(one: str, after: str) -> bool:
    """Tell whether of two characters beside each other one is not ASCII, and they stand in no word together."""
    if (one.isascii() and after.isascii()) or not (one.isalpha() and after.isalpha()):
        return False
    if one.islower() and after.isupper():
        return True
    return one.isascii() != after.isascii() and max(one, after) > _LAST_LATIN


def decode(path: Path, codec: str, meter: Meter | None = None) -> None:
    """Replace a text by what it is in UTF-8. Raises BadInput where it is not in that encoding."""
    decoder, lines, total = codecs.getincrementaldecoder(codec)(), 1, path.stat().st_size
    decoded = path.with_suffix(".decoded")
    try:
        with path.open("rb") as source, decoded.open("wb") as target:
            while block := source.read(_BLOCK):
                text = decoder.decode(block)
                target.write(text.encode())
                lines += text.count("\n")
                if meter:
                    meter.tell("Decoded", done=source.tell(), total=total)
            decoder.decode(b"", final=True)
    except UnicodeError as error:
        decoded.unlink(missing_ok=True)
        said = f"The file is not {name_of(codec)}: it cannot be read as that after line {lines:,}."
        raise BadInput(said, "Save it as UTF-8.", str(error)) from error
    decoded.replace(path)
