"""What rows of chat data look like, and how a row becomes messages.

The contract is the service's: a list `messages` of {role, content}; of other columns only `tools` is kept. The known
forms are a table, known_forms.py; how messages are read is in message_reading.py.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from core.dataset.checks.line_check import UNREADABLE
from core.dataset.forms.form import (
    ANSWERS,
    CHAT_COLUMNS,
    HISTORY,
    QUESTIONS,
    SYSTEM,
    Fits,
    Form,
    is_chat,
    is_text,
    is_wordy,
)
from core.dataset.forms.known_forms import FORMS
from core.dataset.forms.message_reading import (
    MESSAGE_KEYS,
    ROLES,
    as_list,
    is_call,
    list_raw,
    list_roles,
    normalise,
    read_chat,
    read_content,
    read_messages,
    style_of,
)

__all__ = [
    "MESSAGE_KEYS",
    "PARTS",
    "Shape",
    "converter",
    "read_message_keys",
    "recognise",
    "with_mapping",
]

PARTS = {
    "chat": "List of messages",
    "system": "System message",
    "history": "Earlier turns",
    "user": "Question",
    "context": "Added to the question",
    "assistant": "Answer",
    "tools": "Tools",
    "label": "Only rows where this is true",
}
_MESSAGE_PARTS = ("history", "chat", "user", "assistant")
_RIVAL_QUESTIONS = ("instruction", "question", "prompt", "query", "problem")
_RIVAL_ANSWERS = (*ANSWERS.split(), "solution", "explanation")
_NO_CHAT = ("prompt", "completion", "history", "chosen", "rejected", "tools", "functions")  # lists, but not all of it
_IDENTIFIER = re.compile(
    r"(^|_|\b)(id|ids|uuid|guid|hash|sha|md5|url|uri|link|date|time|timestamp|path|source)$", re.IGNORECASE
)
_SET = "mapping"
_GOOD = (1, "1", "true", "yes", "good")


@dataclass(frozen=True)
class Shape:
    """What rows look like. mapping: part, one of PARTS, -> column; {}: rows are not converted.

    reason: how it was recognised, or what it is and what can be done. columns: all of them, for an operator who
    corrects the mapping. sure: otherwise the mapping is a guess, to be confirmed. offer: a mapping that the operator
    may choose, offer_words: what it does ("Train on the chosen answers").
    """

    name: str
    title: str
    reason: str
    mapping: Mapping[str, str] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    sure: bool = True
    offer: Mapping[str, str] = field(default_factory=dict)
    offer_words: str = ""

    @property
    def is_contract(self) -> bool:
        """Tell whether rows are already as the service wants them."""
        return self.name == "messages"

    @property
    def is_recognised(self) -> bool:
        """Tell whether rows can be converted."""
        return bool(self.mapping)

    @property
    def is_sure(self) -> bool:
        """Tell whether rows were read, and not by a guess."""
        return self.is_recognised and self.sure

    @property
    def words(self) -> str:
        """Return what was recognised and how, as sentences."""
        if self.name == _SET or not self.is_recognised:
            return f"{self.title}. {self.reason}"
        return f"{'Recognised as' if self.sure else 'A guess:'} {self.title}. {self.reason}"

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Self:
        """Return a kept shape. Earlier versions kept more of how it was recognised, and no doubt or offer."""
        sure, offer, words = kept.get("sure", True), kept.get("offer", {}), kept.get("offer_words", "")
        columns = tuple(kept["columns"])
        return cls(kept["name"], kept["title"], kept["reason"], kept["mapping"], columns, sure, offer, words)


class _Sample:
    """Sample rows, asked which of their columns hold what. lower: lower-case name -> column."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows
        self.columns = tuple(Counter(name for row in rows for name in row))
        self.lower = {name.lower().strip(): name for name in reversed(self.columns)}

    def count(self, column: str, fits: Fits) -> int:
        """Return in how many rows a column holds what it should."""
        return sum(fits(row[column]) for row in self.rows if column in row)

    def find(self, names: str, fits: Fits, share: float = 0.5) -> str | None:
        """Return the first column of these names that holds what it should, None if none does. "*": any column."""
        columns = (
            self.chat_columns() if names == "*" else [self.lower[name] for name in names.split() if name in self.lower]
        )
        return next(
            (column for column in columns if (count := self.count(column, fits)) and count >= share * len(self.rows)),
            None,
        )

    def chat_columns(self) -> list[str]:
        """Return all columns, those that are named like a conversation first."""
        named = [self.lower[name] for name in CHAT_COLUMNS.split() if name in self.lower]
        asked, answered = (any(name in self.lower for name in names.split()) for names in (QUESTIONS, ANSWERS))
        unfit = (*_NO_CHAT, *HISTORY.split()) if asked and answered else _NO_CHAT
        return named + [name for name in self.columns if name not in named and name.lower() not in unfit]

    def map(self, mapping: Mapping[str, str], found: Mapping[str, str]) -> dict[str, str]:
        """Return part -> column for the parts that these rows have. found: the columns of what a form needs."""
        chosen: dict[str, str] = {}
        for part, names in mapping.items():
            named = [self.lower[name] for name in names.split() if name in self.lower]
            columns = [found[names]] if names in found else named
            left = [name for name in columns if name not in chosen.values()]
            if part == "history":
                left = [name for name in left if self.count(name, is_chat)]
            if left:
                chosen[part] = left[0]
        return chosen


def recognise(rows: Iterable[Any]) -> Shape:
    """Return the shape of sample rows; its name is "unknown" if none fits."""
    sample = _Sample([row for row in rows if isinstance(row, dict) and UNREADABLE not in row])
    if not sample.rows:
        return Shape("unknown", "Not recognised", "No row could be read as an object.")
    for form in FORMS:
        found = {names: sample.find(names, fits, form.share) for names, fits in form.needs.items()}
        if all(found.values()):
            return _to_shape(form, sample, {names: column for names, column in found.items() if column})
    return _guess(sample)


def with_mapping(mapping: Mapping[str, str], columns: Iterable[str] = ()) -> Shape:
    """Return the shape of an operator's own mapping of parts to columns."""
    given = {part: column for part, column in mapping.items() if column}
    said = ", ".join(f'{PARTS[part].lower()}: "{column}"' for part, column in given.items())
    return Shape(_SET, "Read as you set it", f"{said[:1].upper()}{said[1:]}.", given, tuple(columns))


def converter(shape: Shape) -> Callable[[Any], Any]:
    """Return a function that converts a row to the contract's shape; None: the row is labelled bad, and left out.

    A row that is in that shape, or fits no shape, comes back as the same object.
    """
    if not shape.is_recognised:
        return lambda row: row
    if shape.is_contract:
        return _mend
    mapping = dict(shape.mapping)
    return lambda row: _convert(row, mapping) if isinstance(row, dict) and UNREADABLE not in row else row


def read_message_keys(row: Any, shape: Shape) -> list[dict[str, Any]]:
    """Return the messages of a row with the keys that they have in the file."""
    if not isinstance(row, dict):
        return []
    columns = [shape.mapping[part] for part in _MESSAGE_PARTS if part in shape.mapping]
    return [message for column in columns for message in list_raw(row.get(column))]


def _to_shape(form: Form, sample: _Sample, found: Mapping[str, str]) -> Shape:
    if not form.mapping:
        offer = sample.map(form.offer, found)
        offered = offer if "chat" in offer or {"user", "assistant"} <= set(offer) else {}
        words = form.offer_words if offered else ""
        return Shape(form.name, form.title, form.reads, {}, sample.columns, True, offered, words)
    mapping = sample.map(form.mapping, found)
    if "chat" in mapping:
        return _to_chat_shape(form, sample, mapping)
    named = [f'"{column}"' for column in mapping.values()]
    reason = f"It has the columns {_list(named)}.{_say_order(mapping)}"
    rivals = [*_find_rivals(sample, mapping, "user"), *_find_rivals(sample, mapping, "assistant")]
    if rivals:
        reason += f" But {_list(rivals)} may be the question or the answer as well."
    return Shape(form.name, form.title, reason, mapping, sample.columns, sure=not rivals)


def _to_chat_shape(form: Form, sample: _Sample, mapping: dict[str, str]) -> Shape:
    column = mapping["chat"]
    values = [row[column] for row in sample.rows if column in row]
    styles = Counter(style for value in values if (style := style_of(value)))
    style, count = styles.most_common(1)[0]
    among = f"in {count} of {len(sample.rows)} rows"
    if "/" not in style:
        held = {"pairs": "lists of a question and its answer", "texts": "lists of texts"}
        reason = f'"{column}" holds {held.get(style, "texts of several speakers")} {among}.'
        return Shape(form.name, form.title, reason, mapping, sample.columns)
    role, content = style.split("/")
    reason = f'"{column}" holds lists of objects with "{role}" and "{content}" {among}.'
    roles = Counter(role for value in values for role in list_roles(value))
    unknown = sum(count for role, count in roles.items() if role not in ROLES)
    if unknown * 2 > roles.total():
        odd = [f'"{role}"' for role, _ in roles.most_common(4) if role not in ROLES]
        reason += f" Its roles are {_list(odd)}, which say neither who asks nor who answers."
        return Shape(form.name, form.title, reason, mapping, sample.columns, sure=False)
    name, title = form.name, form.title
    if _is_contract(sample, mapping, style):
        name = "messages"
    elif name == "chat" and column != "messages":
        title = f'Messages in "{column}"'
    return Shape(name, title, reason, mapping, sample.columns)


def _is_contract(sample: _Sample, mapping: Mapping[str, str], style: str) -> bool:
    """Tell whether most rows need no change; the others are mended where the check finds an error."""
    if mapping["chat"] != "messages" or style != "role/content" or "system" in mapping:
        return False
    if mapping.get("tools", "tools") != "tools":
        return False
    changed = sum(_mend(row) is not row for row in sample.rows)
    return changed * 2 < len(sample.rows)


def _find_rivals(sample: _Sample, mapping: Mapping[str, str], part: str) -> list[str]:
    """Return the columns, in quotes, beside a question or an answer that could be it as well."""
    names = _RIVAL_QUESTIONS if part == "user" else _RIVAL_ANSWERS
    columns = [sample.lower[name] for name in names if name in sample.lower]
    return [f'"{name}"' for name in columns if name not in mapping.values() and sample.count(name, is_text)]


def _guess(sample: _Sample) -> Shape:
    """Guess a question and an answer from parts of columns' names, or from the only two columns of text."""
    texts = [
        name
        for name in sample.columns
        if not _IDENTIFIER.search(name)
        and name.lower() not in SYSTEM.split()
        and sample.count(name, is_wordy) * 2 >= len(sample.rows)
    ]
    user = _find_word(texts, QUESTIONS)
    assistant = _find_word([name for name in texts if name != user], ANSWERS)
    reason = f'"{user}" and "{assistant}" are named somewhat like a question and its answer.'
    if not (user and assistant) and len(texts) == 2:
        user, assistant = texts
        reason = f'"{user}" and "{assistant}" are the only columns of text: taken in their order.'
    if user and assistant:
        mapping = {"user": user, "assistant": assistant}
        return Shape("columns", "Question and answer columns", reason, mapping, sample.columns, sure=False)
    named = ", ".join(f'"{name}"' for name in sample.columns[:6])
    reason = f"The columns are {named}: none holds a list of messages, and no two look like a question and its answer."
    return Shape("unknown", "Not recognised", reason, {}, sample.columns)


def _find_word(columns: list[str], words: str) -> str | None:
    parts = {name: re.split(r"[\W_]+", name.lower()) for name in columns}
    return next((name for word in words.split() for name in columns if word in parts[name]), None)


def _say_order(mapping: Mapping[str, str]) -> str:
    if "context" not in mapping or "user" not in mapping:
        return ""
    upper, lower = [mapping[part] for part in mapping if part in ("user", "context")]
    return f' "{upper}" stands above "{lower}" in the question.'


def _list(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)


def _mend(row: Any) -> Any:
    """Return a row of the contract with what is odd in its messages mended: the same row where nothing is."""
    if not isinstance(row, dict) or not isinstance(messages := as_list(row.get("messages")), list):
        return row
    mended, tools = normalise(messages), row.get("tools")
    row = row if mended is row["messages"] else {**row, "messages": mended}
    if not isinstance(tools, str):
        return row
    return _with_tools({key: value for key, value in row.items() if key != "tools"}, row, {})


def _convert(row: dict[str, Any], mapping: Mapping[str, str]) -> Any:
    if "label" in mapping and not _is_good(row.get(mapping["label"])):
        return None
    messages: list[Any] = []
    if "history" in mapping:
        messages += read_chat(row.get(mapping["history"])) or []
    if "chat" in mapping:
        chat = _read_chat(row.get(mapping["chat"]), keep=mapping["chat"] == "messages")
        if chat is None:
            return row  # for the check to name
        messages += chat
    asked = _read_question(row, mapping) if "user" in mapping else []
    answered = _read_turn(row.get(mapping["assistant"]), "assistant") if "assistant" in mapping else []
    if any(isinstance(one, dict) and one.get("role") == "user" for one in answered):
        asked = []  # the answer is the whole conversation
    messages += asked + answered
    _add_system(messages, _cell(row, mapping, "system"))
    return _with_tools({"messages": messages}, row, mapping)


def _read_chat(value: Any, *, keep: bool) -> list[Any] | None:
    """Return a conversation. keep: leave keys of messages that nothing reads, for the check to name."""
    return normalise(value) if keep and isinstance(value, list) else read_chat(value)


def _read_question(row: Mapping[str, Any], mapping: Mapping[str, str]) -> list[Any]:
    question = row.get(mapping["user"])
    context = read_content(_lines(_cell(row, mapping, "context")))
    if not isinstance(context, str) or not context.strip():
        return _read_turn(question, "user")
    if not isinstance(question, str) or not question.strip():
        return _read_turn(context, "user")
    both = [question if part == "user" else context for part in mapping if part in ("user", "context")]
    return [{"role": "user", "content": "\n\n".join(both)}]


def _lines(context: Any) -> Any:
    """Return a context as a text: numbers as they are written, choices one below the other."""
    if isinstance(context, list) and all(is_text(one) for one in context):
        return "\n".join(map(str, context))
    return str(context) if isinstance(context, (int, float)) else context


def _read_turn(value: Any, role: str) -> list[Any]:
    """Return what is asked or answered: a text is a message of this role, messages stay messages."""
    held = as_list(value)
    if role == "assistant" and isinstance(held, list) and held and all(map(is_call, held)):
        return read_messages([{"role": "function_call", "content": held}])
    named = isinstance(held, (list, dict)) and "/" in style_of(held) and set(list_roles(held)) <= set(ROLES)
    return read_chat(held) or [] if named else [{"role": role, "content": read_content(value)}]


def _add_system(messages: list[Any], system: Any) -> None:
    """Put a row's system text first; a system message among its messages goes before it, as in other tools."""
    held = as_list(system)
    if isinstance(held, dict):
        held = held.get("parts", held.get("content", held.get("text")))
    text = read_content(held) or system
    if not isinstance(text, str) or not text.strip():
        return
    first = messages[0] if messages else None
    if not (isinstance(first, dict) and first.get("role") == "system"):
        messages.insert(0, {"role": "system", "content": text})


def _with_tools(converted: dict[str, Any], row: Mapping[str, Any], mapping: Mapping[str, str]) -> dict[str, Any]:
    column = mapping.get("tools", "tools")
    asked = _cell(row, mapping, "user")
    tools = as_list(row.get(column) or (asked.get("tools") if isinstance(asked, dict) else None))
    if isinstance(tools, dict):
        tools = [tools]
    if tools in (None, "", []):
        return converted
    if column.lower() == "functions" and isinstance(tools, list):
        tools = [{"type": "function", "function": function} for function in tools]
    return converted | {"tools": tools}


def _cell(row: Mapping[str, Any], mapping: Mapping[str, str], part: str) -> Any:
    """Return what a row has for a part, None where none is mapped: pandas leaves a column without a name."""
    return row.get(mapping[part]) if part in mapping else None


def _is_good(label: Any) -> bool:
    return (label.lower().strip() if isinstance(label, str) else label) in _GOOD
