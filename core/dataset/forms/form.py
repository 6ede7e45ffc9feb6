"""What a form of rows is, and the names and values by which forms are recognised.

The forms themselves are a table: refused_forms.py and known_forms.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from core.dataset.forms.message_reading import as_list, contract_role, is_call, list_roles, style_of

Fits = Callable[[Any], bool]  # whether a value is what a column of a form holds

CHAT_COLUMNS = "messages conversations conversation contents chat_messages dialogue dialog chat items turns"
SYSTEM = "system system_prompt system_message system_instruction systeminstruction"
HISTORY = "history chat_history conversation_history"
TOOLS = "tools functions"
CONTEXT = "input context article passage document"
QUESTIONS = "question prompt instruction query problem input user human input_text inputs"
ANSWERS = "answer completion response output assistant solution target reply generation output_text gpt targets"
LABELS = "label kto_tag"
_EMPTY: tuple[Any, ...] = (None, "", [], {})
_TEMPLATED = re.compile(
    r"\[INST\]|<\|im_start\|>|<start_of_turn>|<\|start_header_id\|>|<\|(?:user|assistant)\|>|(?m:^)### Response:"
)
CHOSEN, REJECTED = "chosen chosen_response preferred_output", "rejected rejected_response non_preferred_output"


def is_any(value: Any) -> bool:
    """Whether there is a value at all."""
    return value not in _EMPTY


def is_text(value: Any) -> bool:
    """Whether it can be asked or answered: a text, a number, true or false."""
    return isinstance(value, (str, int, float))


def is_prose(value: Any) -> bool:
    """Whether it is a text."""
    return isinstance(value, str)


def is_wordy(value: Any) -> bool:
    """Whether it is a text with a letter in it: no number or date of a table."""
    return isinstance(value, str) and any(map(str.isalpha, value[:200]))


def is_templated(value: Any) -> bool:
    """Whether it is a text that a model's template was filled in to."""
    return isinstance(value, str) and _TEMPLATED.search(value) is not None


def is_choice(value: Any) -> bool:
    """Whether it names one of several choices by its number or letter."""
    return isinstance(value, int) or (isinstance(value, str) and len(value.strip("() .")) == 1)


def is_flag(value: Any) -> bool:
    """Whether it says good or bad."""
    return value in (0, 1) or (isinstance(value, str) and value.lower() in ("true", "false"))


def is_list(value: Any) -> bool:
    """Whether it is a list."""
    return isinstance(value, list)


def is_several(value: Any) -> bool:
    """Whether it is a list of answers, each of which could stand alone."""
    return isinstance(value, list) and value != [] and not is_calls(value) and not is_messages(value)


def is_object(value: Any) -> bool:
    """Whether it is an object."""
    return isinstance(value, dict)


def is_messages(value: Any) -> bool:
    """Whether it is a list of messages that name their roles, or one such message."""
    return "/" in style_of(value)


def is_chat(value: Any) -> bool:
    """Whether it is a conversation in any style, or none at all."""
    return value in _EMPTY or style_of(value) != ""


def is_asked(value: Any) -> bool:
    """Whether it is messages of which the last one waits for an answer."""
    return is_messages(value) and list(list_roles(value))[-1:] in (["user"], ["tool"])


def is_calls(value: Any) -> bool:
    """Whether it is a list of calls of tools, or the text of one."""
    calls = as_list(value)
    return isinstance(calls, list) and any(map(is_call, calls)) and all(map(is_call, calls))


def is_question(value: Any) -> bool:
    """Whether it can be asked: a text, or messages."""
    return is_text(value) or is_messages(value)


def is_style(*styles: str) -> Fits:
    """Return whether a value is a conversation that is written in one of these styles."""
    return lambda value: style_of(value).lower() in styles


def is_node(value: Any) -> bool:
    """Whether it is a message of a tree, or its role."""
    return isinstance(value, dict) or contract_role(value) in ("user", "assistant")


def is_moss(value: Any) -> bool:
    """Whether it is an object of turns."""
    return isinstance(value, dict) and "turn_1" in value


@dataclass(frozen=True)
class Form:
    """A known form. columns, reads: what people are told of it; reads is the reason where it is refused.

    needs: alternative names of a column (lower case, "*": any column) -> what it must hold. mapping: part ->
    alternative names, of which the first that a file has is taken. {}: refused. offer: a mapping that the operator may
    choose. share: of the rows, at least so many hold what is needed.
    """

    name: str
    title: str
    columns: str
    reads: str
    needs: Mapping[str, Fits]
    mapping: Mapping[str, str] = field(default_factory=dict)
    offer: Mapping[str, str] = field(default_factory=dict)
    offer_words: str = ""
    share: float = 0.5


BESIDE = {"system": SYSTEM, "tools": TOOLS}
CHAT = {"chat": "*", **BESIDE}
ASKED = {**BESIDE, "history": HISTORY, "user": f"instruction {QUESTIONS}", "context": CONTEXT}
PAIR = {**ASKED, "assistant": ANSWERS}
