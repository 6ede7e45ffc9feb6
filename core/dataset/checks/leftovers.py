"""Recognises what was left in a text by the program that made it: prompt markers, placeholders, encoded files.

Code is taken out first: in it braces and brackets are what the text is about.
"""

from __future__ import annotations

import re

BIDIRECTIONAL = re.compile("[\u202a-\u202e\u2066-\u2069]")  # but for the marks U+200E and U+200F, which Arabic needs
_CODE = re.compile(r"```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)|`[^`\n]+`", re.DOTALL)
_MARKER = re.compile(
    r"(?m)^[ \t]*### Instruction:|\[/?INST\]|<</?SYS>>|<[|｜][A-Za-z][\w▁]{1,30}[|｜]>|</?(?:start|end)_of_turn>|"
    r"^[ \t]*### (?:Human|Assistant|User|System):|\n[ \t]*\n(?:Human|HUMAN|Assistant|ASSISTANT): ?\S"
)
# Marks of a whole message: an answer's heading can be of documentation, a speaker's name of a play.
_EDGES = re.compile(
    r"\A\s*(?:### Response:|(?:Human|Assistant|ASSISTANT|HUMAN): )|"
    r"(?m:^)(?:### Response:|(?:Human|Assistant|HUMAN|ASSISTANT|AI):)\s*\Z"
)
_ASKS, _ANSWERS = re.compile(r"(?mi)^(?:human|user): ?\S"), re.compile(r"(?mi)^assistant:")

_BRACES = re.compile(r"(?<![\w\\{$^_=}(\"'])\{\{ ?[^\W\d][\w .-]{1,40} ?\}\}(?![}\w])")
_BRACES_LINE = re.compile(r"\{%|\\|\$|</|/>|=>| = |\(\)|;$|:\s*\{\{[^}]*\}\}\s*$|[\"']\{\{")
_BRACKETS = re.compile(
    r"\[(?:(?:INSERT|YOUR)[ _][A-Z][A-Z0-9' _-]{1,40}|(?:FIRST|LAST|FULL|CUSTOMER|CLIENT|USER|COMPANY|"
    r"PRODUCT|PERSON)[ _]?NAME|NAME|PHONE[ _]NUMBER|EMAIL[ _]ADDRESS|ORDER[ _](?:NUMBER|ID))\](?![(:\[])"
)
_ANGLES = re.compile(r"<(?:placeholder|(?:insert|your|enter) [a-z][a-z ]{2,40}|(?:INSERT|YOUR)[ _][A-Z][A-Z _]{2,40})>")
_USAGE = re.compile(r"(?i)\[options\]|\busage:")
_TEMPLATES = re.compile(
    r"(?i)jinja|handlebars|mustache|\bvue\b|vue\.?js|angular|\bhelm\b|liquid|wiki|django|ansible|latex|\bjsx\b|\breact\b|"
    r"\btemplat|placeholder|merge field|curly|\bbraces\b|plantilla|marcador|llaves|шаблон|заповнювач|дужк|模板|占位符|"
    r"花括号|قالب|قوالب"
)

_NEAR = 400  # characters before and after

_DATA_ADDRESS = re.compile(r"data:[a-z]{1,20}/[\w.+-]{1,60}(?:;[\w=-]{1,40})*;base64,[A-Za-z0-9+/]{16}")
_BASE64 = re.compile(r"(?<![A-Za-z0-9+/_-])(?:[A-Za-z0-9+/]{200,}|(?:[A-Za-z0-9+/]{60,128}\r?\n){3,})")


def find_prompt_marker(text: str) -> str:
    """Return the marker of a prompt's parts that a text holds, "" if none."""
    plain = without_code(text)
    match = _MARKER.search(plain) or _EDGES.search(plain)
    if match:
        return repr(match[0].strip())
    if "</s>" in plain and "<s>" not in plain:  # where both are, they strike a text out
        return "'</s>'"
    asks = _ASKS.search(plain)
    return "the turns of a talk as text" if asks and _ANSWERS.search(plain, asks.end()) else ""


def find_placeholder(text: str) -> str:
    """Return the placeholder that a text holds, "" if none."""
    plain = without_code(text)
    for match in _BRACES.finditer(plain):
        if not _BRACES_LINE.search(line_around(plain, match)):
            return repr(match[0])
    found = _ANGLES.search(plain) or (None if _USAGE.search(plain) else _BRACKETS.search(plain))
    return repr(found[0]) if found else ""


def speaks_of_templates(text: str) -> bool:
    """Tell whether a conversation is about templates, so that placeholders are what it means to say."""
    return _TEMPLATES.search(text) is not None


def find_base64(text: str) -> str:
    """Return how an encoded file stands in a text, "" if none."""
    if _DATA_ADDRESS.search(text):
        return "a file as a data: address"
    runs = (match[0] for match in _BASE64.finditer(text))
    sizes = [len(run) for run in runs if _is_mixed(run)]
    return f"{sizes[0]:,} characters of base64" if sizes else ""


def line_around(text: str, match: re.Match[str]) -> str:
    """Return the line that a match is on, of a very long one what is near."""
    before = text[max(0, match.start() - _NEAR) : match.start()].rpartition("\n")[2]
    return before + match[0] + text[match.end() : match.end() + _NEAR].partition("\n")[0]


def without_code(text: str) -> str:
    """Return a text without its code blocks and what stands between backticks."""
    return _CODE.sub(" ", text) if "`" in text or "~~~" in text else text


def _is_mixed(run: str) -> bool:
    """Tell encoded bytes from long words, digits of pi, and genes."""
    kinds = (re.search(kind, run) for kind in ("[A-Z]", "[a-z]", "[0-9]"))
    return all(kinds) and len(set(run)) >= 30
