"""Recognises an answer that stops in the middle: an open code block, a comma, "and the", a sentence without its end.

What ends without a full stop by nature is left alone: short answers, titles, lists, tables, code, numbers, signatures.
"""

from __future__ import annotations

import re

SURE, LONG = 40, 100  # wide characters count thrice, below
_OPEN = ",，、،([{（-\N{EN DASH}\N{EM DASH}:："
_CODE_LINE = re.compile(
    r"[={}<>\\|$]|::|->|://|^\s{2,}\S|^(?:def|class|import|from|return|sudo|pip|npm|git|docker|apt|cd|curl|az|SELECT|"
    r"INSERT|UPDATE|CREATE)\b|^#"
)
_ITEM = re.compile(r"[ \t]*(?:[-*•+–—]|\(?\d{1,3}[.)、]|\(?\w[.)])[ \t]*\S")
_WIDE = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_SENTENCE_END = re.compile(r"\w{4}[\"”’»)]{0,2}[.!?؟۔]+[\"”’»)\]]{0,2}(?=\s)|[。！？]")
_QUOTED = re.compile(r"[\"”»’*_] ?(?:[-~]|\N{EN DASH}|\N{EM DASH}) ?[\w. ]{2,40}$")  # "…" - Ann Lee
_LABEL = re.compile(r"[\w ]{2,25}[:：]")  # Source: …
_AFTER_MARK = re.compile(r"[.!?؟۔]\s|[。！？]")  # that of an abbreviation, too
_ENDS = ".!?…。！？؟۔;；"
# Words that another word follows: no sentence ends with one.
_LEADING = frozenset(
    """the an and or of with from by which because its their our your my than into such including are was were to as
    at nor whose while although unless
    el la los las un una unos unas y de del con por para que en su sus al como porque cuando cuyo entre según sino
    і й та або але що який яка яке які на в у з зі із до від для про під над між через щоб потім як коли якщо бо
    и или но что который которая на в с со до от для про под над между через чтобы если
    من إلى على عن مع أو ثم في التي الذي الذين أن إن لأن حيث بين حتى هذه هذا
    der die das und oder mit von zu für dass le les des et ou avec pour dans sur""".split()  # noqa: SIM905
)
_LEADING_WIDE = tuple("的和与或在是把被对从向而且但因为以及如果由于关于通过包括并")


def is_cut(text: str) -> bool:
    """Tell whether an answer stops in the middle."""
    if text[-1:] in _ENDS and "```" not in text:
        return False
    text = text.rstrip()
    if "```" in text and _leaves_code_open(text):
        return True
    last = text[-1:]
    if not (last.isalpha() or last in _OPEN) or not last:
        return False
    if text[0] in "{[" and text[1:2] in ('"', "{", "["):
        return text.count(text[0]) > text.count("}" if text[0] == "{" else "]")
    line = text[text.rfind("\n") + 1 :]
    if _CODE_LINE.search(line) or _QUOTED.search(line):
        return False
    return _ends_open(text, line, last) or _ends_in_sentence(text, line)


def _leaves_code_open(text: str) -> bool:
    before = text[: text.rfind("```")]
    return text.count("```") % 2 == 1 and not before[before.rfind("\n") + 1 :].strip(" \t>*-")


def _ends_open(text: str, line: str, last: str) -> bool:
    """Tell whether the last character or word lets something follow."""
    size = _size(text)
    if last in ",，、،([{（:：":
        return size >= SURE and _size(line) >= SURE * 3 // 4
    if last in _OPEN:
        return size >= SURE and text[-2:-1].isalnum() and len(line.split()) > 4
    if _WIDE.match(last):
        return size >= SURE and line.endswith(_LEADING_WIDE)
    words = line.split()
    return size >= SURE and len(words) > 4 and words[-1].casefold() in _LEADING


def _ends_in_sentence(text: str, line: str) -> bool:
    """Tell whether a sentence without its end follows sentences that have theirs."""
    size, words = _size(text), line.split()
    if size < LONG:
        return False
    if _ITEM.match(line):
        items = [other.rstrip() for other in text.split("\n")[:-1] if _ITEM.match(other)]
        return len(items) > 1 and all(item[-1] in _ENDS for item in items) and _size(line) * len(items) >= 40
    rest = _AFTER_MARK.split(line)[-1]
    if len(rest.split()) < 3 and len(_WIDE.findall(rest)) < 3:
        return False
    if _SENTENCE_END.search(line):
        return True
    if not _is_prose(line, words):
        return False
    if _follows_sentences(text):
        return _size(line) >= 30 and not _LABEL.match(line)
    earlier = _SENTENCE_END.search(text) is not None
    return _size(line) >= (60 if earlier else 2 * LONG) and (earlier or line.count(",") * 6 <= len(words))


def _follows_sentences(text: str) -> bool:
    """Tell whether every paragraph but the last one ends as a sentence does, and so the last one should."""
    earlier = [line.rstrip() for line in text.split("\n")[:-1] if line.strip()]
    return len(earlier) > 1 and all(line[-1] in _ENDS for line in earlier)


def _is_prose(line: str, words: list[str]) -> bool:
    """Tell a sentence from a title, a name and a list of words."""
    wide = len(_WIDE.findall(line))
    if wide * 2 > len(line):
        return line.count("、") * 8 < len(line)
    capitals = sum(word[:1].isupper() for word in words)
    return len(words) >= 6 and capitals * 2 <= len(words) and line.count(",") * 4 <= len(words)


def _size(text: str) -> int:
    """Return the length in letters of Latin: a Chinese character says as much as three."""
    return len(text) if text.isascii() else len(text) + 2 * len(_WIDE.findall(text))
