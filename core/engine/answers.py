"""Where in a rendered conversation the assistant's answers stand, and what of a conversation its template leaves out.

A template is a program: it may write an earlier turn otherwise than the last, take thoughts out, put the system text
elsewhere. So nothing is searched for by its words, which may stand in a question too. Each message is given marks
that no text holds, and the text is rendered once more: a mark tells where its message went. Imports nothing of core
but the template, with which it travels to Azure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from core.engine.chat_template import THOUGHTS, BadTemplate, ChatTemplate, Message, TemplateRefused, Tools

Span = tuple[int, int]
LeftOut = Literal["tools", "thoughts", "answers"]
_FIRST_MARK, _LAST_MARK = 0x100000, 0x10FFFF  # for private use; a text that holds one is found out by _Marked.whole
_MARKS = re.compile(f"[{chr(_FIRST_MARK)}-{chr(_LAST_MARK)}]")
_CONTENT, _THOUGHT, _CALL, _LAST_CALL, _BEGIN = range(_KINDS := 5)
_ALL = range(_KINDS)
_MOST_MESSAGES = (_LAST_MARK - _FIRST_MARK) // _KINDS - 1
_TOOLS = chr(_LAST_MARK)
_END_OF_THOUGHT, _LONGEST_OPENING = "</think>", 100
_CLOSING_TAG = re.compile(r"</\w+>\Z")


def mark_learned(offsets: Sequence[Span], answers: Sequence[Span]) -> list[bool]:
    """Return the loss mask, `(tokens,)`: a token is learned where it holds a character of an answer.

    offsets: the characters of each token. The rule is that of transformers' mask of assistant tokens.
    """
    import numpy  # a tenth of a second, which the steps without weights do not spend

    begins, ends = numpy.array(offsets, numpy.int64).reshape(-1, 2).T
    learned = numpy.zeros(len(begins), bool)
    for begin, end in answers:
        learned |= (ends > begin) & (begins < end)
    marks: list[bool] = learned.tolist()
    return marks


def find_answers(template: ChatTemplate, messages: Sequence[Message], text: str, tools: Tools = None) -> list[Span]:
    """Return where in the rendered `text` the assistant's learned answers stand, as ranges of characters.

    An answer of weight 0 is read and not learned. What follows the prompt for an answer is the answer, to the end of
    the token that ends it. White space after that belongs to the next turn. Raises TemplateRefused.
    """
    marked = _Marked(template, messages, text, tools)
    spans: list[Span] = []
    served: Span | None = (0, 0)
    for index, message in enumerate(messages):
        if is_learned(message):
            served = served and _find_as_served(template, messages[: index + 1], text, tools)
            begin, end = served or marked.find(index)
            if begin == end and str(message.get("content") or "").strip():
                raise TemplateRefused("it does not show an answer")
            spans.append((begin - _count_given(message, text, begin, end), end))
    return spans


def is_learned(message: Message) -> bool:
    """Return whether a message is an answer to learn from: one of the assistant whose weight is not 0 (nor false)."""
    return bool(message["role"] == "assistant" and message.get("weight") != 0)


def find_left_out(template: ChatTemplate, messages: Sequence[Message], text: str, tools: Tools = None) -> set[LeftOut]:
    """Return what of a conversation is not in its rendered text: tools with their calls and results, or thoughts.

    "answers": one that is learned calls tools without a text, and nothing is left of it but the token that ends it.
    Nothing where marks change what the template writes: then it cannot be told.
    """
    if not tools and not any(map(_may_be_left_out, messages)):
        return set()
    marked = _Marked(template, messages, text, tools)
    try:
        shown = marked.whole.places
    except TemplateRefused:
        return set()
    given: dict[str, LeftOut] = {_TOOLS: "tools"} if tools else {}
    for index, message in enumerate(marked.messages):
        kinds: dict[str, LeftOut] = {_mark(index, kind): "tools" for kind in (_CALL, _LAST_CALL)}
        kinds[_mark(index, _THOUGHT)] = "thoughts"
        if message["role"] == "tool":
            kinds[_mark(index, _CONTENT)] = "tools"
        given |= {
            mark: kinds[mark] for mark in _MARKS.findall(json.dumps(message, ensure_ascii=False)) if mark in kinds
        }
    left_out = {kind for mark, kind in given.items() if mark not in shown}
    emptied = any(is_learned(message) and _is_emptied(message, index, shown) for index, message in enumerate(messages))
    return left_out | {"answers"} if emptied else left_out


def _is_emptied(message: Message, index: int, shown: Collection[str]) -> bool:
    """Tell whether an answer calls tools, says nothing beside, and is not shown."""
    says_nothing = not str(message.get("content") or "").strip()
    return bool(message.get("tool_calls")) and says_nothing and not {_mark(index, kind) for kind in _ALL} & set(shown)


def _find_as_served(template: ChatTemplate, messages: Sequence[Message], text: str, tools: Tools) -> Span | None:
    """Return the last answer of `messages` where `text` begins with the very prompt for it; None where it does not."""
    before, through = _try(template, messages[:-1], tools, ask=True), _try(template, messages, tools)
    if before is not None and through is not None and through.startswith(before) and text.startswith(through):
        return len(before), len(through.rstrip())
    return None


def _count_given(message: Message, text: str, begin: int, end: int) -> int:
    """Return how many characters of an answer stand in the prompt for it already, as "<think>" in both."""
    content = str(message.get("content") or "")
    for said in (content.strip(), content.rpartition(_END_OF_THOUGHT)[2].strip()):
        if text.find(said, begin, end) < 0:
            most = min(len(said), _LONGEST_OPENING)
            for size in range(1, most):
                if text.startswith(said, begin - size):
                    return size
    return 0


def _try(template: ChatTemplate, messages: Sequence[Message], tools: Tools, *, ask: bool = False) -> str | None:
    """Return a part of a conversation as it is rendered by itself, None where the template refuses the part."""
    try:
        return template.render(messages, tools, ask=ask)
    except BadTemplate:
        raise
    except TemplateRefused:
        return None


@dataclass(frozen=True)
class _Placed:
    """A rendered text without its marks, and where in it each of them stood."""

    text: str
    places: dict[str, int]

    def find_last(self, whole: _Placed, index: int) -> tuple[int, int]:
        """Return where the last mark before a message stands here and in the whole text; (0, 0) without one in both."""
        own = [place for mark, place in whole.places.items() if _mark(index, 0) <= mark < _mark(index + 1, 0)]
        shared = [mark for mark in self.places.keys() & whole.places.keys() if mark < _mark(index, 0)]
        behind = min(own, default=len(whole.text))
        places = [(self.places[mark], whole.places[mark]) for mark in shared if whole.places[mark] <= behind]
        return max(places, default=(0, 0))


class _Marked:
    """A conversation each message of which is marked where its content, its thought and its calls end."""

    def __init__(self, template: ChatTemplate, messages: Sequence[Message], text: str, tools: Tools) -> None:
        self._template, self._text = template, text
        self._tools = None if not tools else [_mark_function(tool, _TOOLS) for tool in tools]
        self._given = messages
        self.messages: list[dict[str, Any]] = []

    @cached_property
    def whole(self) -> _Placed:
        """Return the conversation with its marks; raises TemplateRefused where they change what is rendered."""
        if len(self._given) > _MOST_MESSAGES:
            raise TemplateRefused(f"it writes answers anew in a conversation of more than {_MOST_MESSAGES:,} messages")
        for blanks in (True, False):  # a template may ask whether there is a text
            self.messages = [_mark_message(message, index, blanks) for index, message in enumerate(self._given)]
            placed = self._render(self.messages)
            if placed is not None and placed.text == self._text:
                return placed
        raise TemplateRefused("it does not show an answer as it was given")

    @cached_property
    def _begun(self) -> _Placed | None:
        """Return the conversation with a mark in the place of each answer's words; None where it is refused."""
        messages = [dict(message) for message in self.messages]
        for index, message in enumerate(messages):
            if message["role"] == "assistant":
                _, mark, behind = str(message.get("content") or "").rpartition(_mark(index, _CONTENT))
                message["content"] = _mark(index, _BEGIN) + mark + behind
        return self._render(messages)

    @cached_property
    def _opening(self) -> str:
        """Return what asking for an answer adds to the conversation, "" where it adds nothing or changes more."""
        asked = self._render(self.messages, ask=True)
        return asked.text[len(self._text) :] if asked and asked.text.startswith(self._text) else ""

    def find(self, index: int) -> Span:
        """Return where the answer of a message stands; raises TemplateRefused."""
        begin = self._find_begin(index)
        return begin, self._find_end(index, begin)

    def _find_begin(self, index: int) -> int:
        """Return where the prompt for an answer ends, held against the text from the last place that both share.

        A template may write the prompt otherwise before earlier answers: then the answer begins behind what asking
        adds, or with its content, behind a heading with no more special tokens than the prompt has.
        """
        whole, prompt = self.whole, ""
        if asked := self._render(self.messages[:index], ask=True):
            there, here = asked.find_last(whole, index)
            prompt = asked.text[there:]
            if self._text.startswith(prompt, here):
                return here + len(prompt)
        if self._begun and (begin := self._begun.places.get(_mark(index, _BEGIN))):
            there, here = self._begun.find_last(whole, index)
            heading = self._begun.text[there:begin]
            if self._text.startswith(heading, here):
                if self._opening and heading.count(self._opening) == 1:
                    return here + heading.index(self._opening) + len(self._opening)
                if self._count_markers(heading) <= self._count_markers(
                    prompt
                ):  # a blank is the prompt's or the answer's
                    return here + len(heading if prompt[-1:].isspace() else heading.rstrip())
        raise TemplateRefused("it does not show where an answer begins")

    def _count_markers(self, text: str) -> int:
        return sum(text.count(marker) for marker in self._template.markers)

    def _find_end(self, index: int, begin: int) -> int:
        """Return where the token ends that ends an answer: a special one behind its content, else as where it is last.

        An answer that is the last may end in another token than the same answer before a question.
        """
        places = self.whole.places
        last = max((_mark(index, kind) for kind in _ALL), key=lambda mark: places.get(mark, -1))
        answer = str(self._given[index].get("content")).rpartition(_END_OF_THOUGHT)[2]
        tag = len(_find_closing_tag(answer.rstrip()))
        after = self._text[places.get(last, begin) + tag :].lstrip()
        markers = [each for each in self._template.markers if after.startswith(each)]
        if markers and last in places and last == _mark(index, _CONTENT):
            return len(self._text) - len(after) + len(max(markers, key=len))
        if told := self._render(self.messages[: index + 1]):
            there, here = told.find_last(self.whole, index + 1)
            rest = told.text[there:].rstrip()
            if self._text.startswith(rest, here) and here + len(rest) > begin:
                return here + len(rest)
            line = rest[: len(rest) - len(rest.lstrip())] + rest.lstrip().partition("\n")[0]
            if here > begin and self._text.startswith(f"{line}\n", here):
                return here + len(line)
        raise TemplateRefused("it does not show where an answer ends")

    def _render(self, messages: Sequence[Message], *, ask: bool = False) -> _Placed | None:
        text = _try(self._template, messages, self._tools, ask=ask)
        if text is None:
            return None
        places: dict[str, int] = {}
        for before, found in enumerate(_MARKS.finditer(text)):
            places.setdefault(found[0], found.start() - before)  # a call may be named again by its result
        return _Placed(_MARKS.sub("", text), places)


def _mark(index: int, kind: int) -> str:
    return chr(_FIRST_MARK + _KINDS * index + kind)


def _may_be_left_out(message: Message) -> bool:
    keys = {"tool_calls", *THOUGHTS}
    return message["role"] == "tool" or bool(keys & message.keys()) or _END_OF_THOUGHT in (message.get("content") or "")


def _mark_message(message: Message, index: int, blanks: bool) -> dict[str, Any]:
    """Return a message with its marks, each before the white space that its text may end in.

    blanks: a content that is nothing but white space is marked too, unless calls stand beside it.
    """
    blanks = blanks and not message.get("tool_calls")
    marked = dict(message)
    if isinstance(content := message.get("content"), str):
        before, closed, answer = content.rpartition(_END_OF_THOUGHT)
        answer = _append(answer, _mark(index, _CONTENT), blanks)
        marked["content"] = _append(before, _mark(index, _THOUGHT)) + closed + answer
    for name in THOUGHTS:
        if isinstance(thought := message.get(name), str):
            marked[name] = _append(thought, _mark(index, _THOUGHT))
    if isinstance(calls := message.get("tool_calls"), list) and calls:
        marked["tool_calls"] = [_mark_function(calls[0], _mark(index, _CALL)), *calls[1:]]
        if len(calls) > 1:
            marked["tool_calls"][-1] = _mark_function(calls[-1], _mark(index, _LAST_CALL))
    return marked


def _append(text: str, mark: str, blank: bool = False) -> str:
    """Return a text with a mark behind its last character, or before the tag that closes it: templates look for those.

    blank: a text of white space is marked too, at its end, for more templates take off what an answer begins with.
    """
    core = text.rstrip()
    if not core.strip().removeprefix("<think>"):
        return text + mark * blank
    place = len(core) - len(_find_closing_tag(core))
    return text[:place] + mark + text[place:]


def _find_closing_tag(core: str) -> str:
    found = _CLOSING_TAG.search(core, max(0, len(core) - _LONGEST_OPENING))
    return found[0] if found else ""


def _mark_function(tool: Any, mark: str) -> Any:
    """Return a call or a description of a tool with a mark behind the name of its function."""
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        return tool
    return {**tool, "function": {**function, "name": function["name"] + mark}}
