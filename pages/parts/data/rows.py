"""Conversations of a data set, a page at a time: as chat, with JSON, or token by token. Row text is never markup."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import streamlit as st

from core import dataset as datasets
from core.dataset import EVERY_ROW, KINDS, ChatDataset, DataFile, Finding, Kept, Row
from pages.parts.data import edits
from pages.parts.kit import fields, reads, words
from pages.parts.kit.action import action
from pages.parts.kit.elements.tokens import draw_tokens
from pages.parts.kit.notices import ready
from pages.parts.kit.state import set_url_id, ui, url_id

CHAT, WITH_JSON, AS_MODEL = "Chat", "Chat and JSON", "As the model sees it"
_PAGE_SIZES = (5, 10, 25)
_PER_PAGE = 10
_SHOWN_CHARACTERS = 1_500  # of a message in a list; a row that is opened alone is shown to _OPENED_CHARACTERS
_OPENED_CHARACTERS = 50_000
_SHOWN_TOKENS = 3_000
_ICONS = {"user": ":material/person:", "assistant": ":material/smart_toy:", "system": ":material/settings:"}
_ALL = ""
_ORDERS = {
    "place": "Place in the file",
    "longest": "Longest first",
    "shortest": "Shortest first",
    "most turns": "Most messages first",
    "fewest turns": "Fewest messages first",
}
_SPEAKERS = {_ALL: "Any", "system": "A system message", "tool": "A tool message"}
_TEST_ROW = "test-"  # before the line of a test row in the address: ?row=test-12


def draw(dataset: ChatDataset, findings: tuple[Finding, ...], tokenizer: Path | None, limit: int) -> None:
    """Draw the rows that search, finding and line choose. limit: after how many tokens a row is cut, -1: nowhere."""
    st.header("Conversations")
    chosen = _read_chosen()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        file: DataFile = _draw_file(chosen.file) if dataset.test_path else "train"
        view = str(st.segmented_control("Show as", (CHAT, WITH_JSON, AS_MODEL), default=CHAT, required=True, key="as"))
    path, unit = dataset.path_of(file), dataset.unit_of(file)
    codes = {finding.code: finding for finding in findings if finding.file == file and finding.lines}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        text = _draw_search_field(chosen.text)
        code = _draw_filter(chosen.code, codes) if codes else _ALL
        line = _draw_line(chosen.line, unit)
        measure = "tokens" if dataset.stats.in_tokens else "characters"
        _draw_more(chosen, measure, has_turns=datasets.has_turns(path))
    set_url_id("row", f"{_TEST_ROW if file == 'test' else ''}{line}" if line else None)
    if line:
        row = datasets.find_row(path, line, dataset.mark)
        rows = [row] if row else []
        if not rows:
            _draw_absent(dataset, file, line)
    else:
        _draw_kept(chosen.kept, measure)
        rows = _draw_pages(_Asked(path, code, text, dataset.mark, limit, chosen.kept, chosen.per_page))
    for before, row in zip([None, *rows], rows, strict=False):
        first = before is None or before.line != row.line  # of rows that share a line, this one is found by it
        _draw_row(row, unit, view, tokenizer, limit, alone=bool(line), opens=first)
        if line:
            edits.draw_row(dataset, file, row)


def _draw_absent(dataset: ChatDataset, file: DataFile, line: int) -> None:
    """Say that no row begins there, and whether one of the other file does, which may have been split off."""
    unit, names = dataset.unit_of(file), {"train": "training rows", "test": "test rows"}
    of = f" of the {names[file]}" if dataset.test_path else ""
    st.text(f"There is no {'row on line' if unit == 'line' else unit} {words.number(line)}{of}.")
    for other in dataset.files:
        if other != file and datasets.find_row(dataset.path_of(other), line, dataset.mark):
            st.text(f"The {names[other]} have one.")
    action("Show all rows", _open, None, key="close-row", icon="close")


@dataclass(frozen=True)
class Chosen:
    """Which rows are shown."""

    file: DataFile = "train"
    code: str = _ALL
    text: str = ""
    line: int | None = None
    kept: Kept = EVERY_ROW
    per_page: int = _PER_PAGE


@dataclass(frozen=True)
class _Asked:
    """What the rows of a page are read by. kept: which rows, and in which order."""

    path: Path
    code: str
    text: str
    mark: str
    limit: int
    kept: Kept
    per_page: int

    def read(self, offset: int) -> datasets.Page:
        """Return the page that begins there."""
        return datasets.read_page(
            self.path, offset, self.per_page, self.code, self.text, self.mark, self.limit, self.kept
        )


def show_finding(code: str, file: DataFile) -> None:
    """Show the rows with a finding."""
    ui().view["rows"] = Chosen(file, code, per_page=_read_chosen().per_page)


def _read_chosen() -> Chosen:
    """Return what was chosen on this page, at first the line that the address names."""
    if "rows" not in ui().view:
        row = url_id("row") or ""
        line = row.removeprefix(_TEST_ROW)
        file: DataFile = "test" if row.startswith(_TEST_ROW) else "train"
        ui().view["rows"] = Chosen(file, line=int(line) if line.isdigit() and 0 < int(line) < 10**9 else None)
    chosen: Chosen = ui().view["rows"]
    return chosen


def _choose(value: Any, name: str) -> None:
    ui().view["rows"] = replace(_read_chosen(), **{name: value})


def _open(line: int | None) -> None:
    _choose(line, "line")


def _draw_file(file: DataFile) -> DataFile:
    field = fields.place("rows-of", file)
    options = fields.follow(field, "Rows of", _choose, "file")
    st.segmented_control(
        "Rows of", ("train", "test"), default=file, required=True, format_func=str.capitalize, **options
    )
    return file


def _draw_search_field(text: str) -> str:
    options = fields.follow(fields.place("rows-search", text), "Search rows", _choose, "text")
    st.text_input("Search rows", text, type="search", live="400ms", **options)
    return text.strip()


def _draw_filter(code: str, codes: dict[str, Finding]) -> str:
    field = fields.place("rows-finding", code if code in codes else _ALL, [_ALL, *codes])
    st.selectbox(
        "With the finding",
        field.among,
        field.index or 0,
        format_func=lambda code: (
            f"{codes[code].kind.title} ({words.number(codes[code].count)})" if code else "All rows"
        ),
        **fields.follow(field, "The finding", _choose, "code"),
    )
    return str(field.value)


def _draw_line(line: int | None, unit: str) -> int | None:
    options = fields.follow(fields.place("rows-line", line), f"The {unit}", _choose, "line")
    st.number_input(f"Go to {unit}", min_value=1, value=line, step=1, placeholder="All", **options)
    return line


def _draw_more(chosen: Chosen, unit: str, *, has_turns: bool) -> None:
    """Draw the order of the rows, and by what else they are kept. unit: of their length."""
    kept = chosen.kept
    with st.popover("Sort and filter", icon=":material/tune:", key="rows-more"):
        with st.container(horizontal=True):
            _draw_choice("order", "Sort by", [name for name in _ORDERS if has_turns or "turns" not in name], kept.order)
            if has_turns:
                _draw_choice("role", "With", list(_SPEAKERS), kept.role)
        _draw_range("lengths", f"Length in {unit}", kept.lengths)
        if has_turns:
            _draw_range("turns", "Messages", kept.turns)
        size = fields.place("rows-per-page", chosen.per_page, _PAGE_SIZES)
        options = fields.follow(size, "The rows a page", _choose, "per_page")
        st.segmented_control("Rows a page", size.among, default=size.value, required=True, **options)


def _draw_choice(name: str, label: str, among: list[str], value: str) -> None:
    place = fields.place(f"rows-{name}", value, among)
    options = fields.follow(place, label, _keep, name)
    st.selectbox(label, place.among, place.index or 0, format_func=lambda key: {**_ORDERS, **_SPEAKERS}[key], **options)


def _draw_range(name: str, label: str, value: tuple[int, int]) -> None:
    """Draw the least and the most of a range, of which each may be left open."""
    with st.container(horizontal=True):
        for end, word in enumerate(("from", "to")):
            place = fields.place(f"rows-{name}-{word}", value[end] or None)
            options = fields.follow(place, label, _keep_end, name, end)
            st.number_input(f"{label} {word}", min_value=1, value=place.value, step=1, placeholder="Any", **options)


def _keep(value: Any, name: str) -> None:
    _choose(replace(_read_chosen().kept, **{name: value}), "kept")


def _keep_end(value: int | None, name: str, end: int) -> None:
    ends = list(getattr(_read_chosen().kept, name))
    ends[end] = value or 0
    _keep(tuple(ends), name)


def _draw_kept(kept: Kept, unit: str) -> None:
    """Draw which rows are kept, such as "Only rows of 100 to 200 tokens, with a system message", and the way back."""
    ranges = [_describe_range(kept.lengths, unit), _describe_range(kept.turns, "messages")]
    parts = [f"of {said}" for said in ranges if said] + ([f"with a {kept.role} message"] if kept.role else [])
    if parts:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.text(f"Only rows {', '.join(parts)}.")
            action("Show all lengths and roles", _choose, Kept(order=kept.order), "kept", key="keep-all", icon="close")


def _describe_range(ends: tuple[int, int], unit: str) -> str:
    least, most = map(words.number, ends)
    if not any(ends):
        return ""
    if not ends[1]:
        return f"{least} {unit} or more"
    return f"{least} to {most} {unit}" if ends[0] else f"{most} {unit} or fewer"


def _draw_pages(asked: _Asked) -> list[Row]:
    """Draw the way to other pages; returns the rows of this one."""
    if asked.text:
        return _draw_search(asked)
    first = asked.read(0)
    total = first.total or 0
    if not total:
        st.text("No row is like this." if asked.code or asked.kept != EVERY_ROW else "There are no rows.")
    pages = max(1, -(-total // asked.per_page))
    by_person = replace(asked, mark="", limit=0)  # the page stays where tokens are counted, or the limit is read
    at = st.pagination(pages, key=f"rows-page-{hash(by_person)}") if pages > 1 else 1
    st.caption(f"{words.plural(total, 'row')}, page {words.number(at)} of {words.number(pages)}")
    return list((first if at == 1 else asked.read((at - 1) * asked.per_page)).rows)


def _draw_search(asked: _Asked) -> list[Row]:
    """Search a slice of the file; where it ends before the file does, the operator goes on from there."""
    text = asked.text
    if ui().notes.get("search", (None,))[0] != asked:
        ui().notes["search"] = (asked, [0])
    starts: list[int] = ui().notes["search"][1]
    page = asked.read(starts[-1])
    whole = len(starts) == 1 and page.next is None
    if page.rows:
        said = f"{words.plural(len(page.rows), 'row')} found" + ("" if whole else f", page {len(starts)}")
    elif page.next is None:
        said = f"No row holds '{text}'." if len(starts) == 1 else f"No other row holds '{text}'."
    else:
        said = f"Nothing in the first {words.number(page.searched)} rows."
    st.caption(words.plain(said))
    with st.container(horizontal=True):
        if len(starts) > 1:
            action("Earlier hits", starts.pop, key="search-back", icon="chevron_left")
        if page.next is not None:
            action(
                "Later hits" if page.rows else "Search on",
                starts.append,
                page.next,
                key="search-on",
                icon="chevron_right",
            )
    return list(page.rows)


def _draw_row(row: Row, unit: str, view: str, tokenizer: Path | None, limit: int, *, alone: bool, opens: bool) -> None:
    name = f"{unit} {words.number(row.line)}"
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(words.plain(_describe(row, name)), width="stretch")
            if alone:
                action("Show all rows", _open, None, key="close-row", icon="close")
            elif opens:
                action(f"Open {name}", _open, row.line, key=f"open-row-{row.line}", icon="open_in_full")
        longest = _OPENED_CHARACTERS if alone else _SHOWN_CHARACTERS
        if not row.messages:
            st.text(_shorten(row.text, longest))
        elif view == AS_MODEL:
            _draw_as_model(row, name, tokenizer, limit)
        elif view == WITH_JSON:
            chat, raw = st.columns(2, gap="medium")
            with chat:
                draw_chat(row, longest)
            with raw:
                st.code(_shorten(_pretty(row.text), longest * 3), language=None, wrap_lines=True)
        else:
            draw_chat(row, longest)


def _describe(row: Row, name: str) -> str:
    parts = [name]
    if row.tokens:
        parts.append(f"{words.plural(row.tokens, 'token')}, {words.number(row.trained)} learned")
    if not row.messages:
        parts.append("cannot be read as a conversation")
    parts += [KINDS[code].title for code in row.codes]
    return " · ".join(parts)


def draw_chat(row: Row, longest: int) -> None:
    """Draw the messages of a row, with calls and tools. longest: characters that are shown of each."""
    for message in row.messages:
        role = message["role"]
        with st.chat_message(role, avatar=_ICONS.get(role, ":material/build:")):
            if "tool" in message:
                st.caption(words.plain(f"Result of {message['tool']}"))
            if "thought" in message:
                st.caption("Thought")
                st.text(_shorten(message["thought"], longest))
                st.caption("Said")
            if message["content"] or "calls" not in message:
                st.text(_shorten(message["content"], longest))
            if "calls" in message:
                st.caption("Calls")
                st.code(_shorten(message["calls"], longest), language=None, wrap_lines=True)
    if row.tools:
        with st.expander("Tools"):
            st.code(_shorten(_pretty(row.tools), longest), language=None, wrap_lines=True)


def _draw_as_model(row: Row, name: str, tokenizer: Path | None, limit: int) -> None:
    if tokenizer is None:
        st.text("No model is chosen whose tokenizer is on this machine, so its tokens cannot be shown.")
        return
    if len(row.text) > 4 * _OPENED_CHARACTERS:
        st.text("This row is too long to be shown token by token.")
        return
    key, asked = f"model-view-{row.line}", f"{datasets.identify(tokenizer)}:{limit}:{hash(row.text)}"
    viewed = reads.work(key, asked, lambda: _view_as_model(row, tokenizer, limit), alone=True)
    if not ready(viewed, "Reading it with the model's tokenizer…", (120,), key=key):
        return
    seen = viewed.value
    shown = seen.tokens[:_SHOWN_TOKENS]
    said = f"{words.plural(len(seen.tokens), 'token')}, {words.number(seen.learned)} learned"
    said += f", {words.number(seen.cut)} cut off at {words.number(limit)}" if seen.cut else ""
    st.caption(f"{said}. Underlined: learned. Struck out: cut off. The rest is read, not learned.")
    draw_tokens(shown, key=f"tokens-{row.line}", alt=f"{name.capitalize()} as the model sees it: {said}.")
    if len(seen.tokens) > len(shown):
        st.caption(f"The first {words.number(len(shown))} tokens are shown.")


def _view_as_model(row: Row, tokenizer: Path, limit: int) -> datasets.ModelView:
    given = row.read()
    return datasets.view_as_model(given["messages"], tokenizer, limit, given.get("tools"))


def _pretty(text: str) -> str:
    try:
        return json.dumps(json.loads(text), ensure_ascii=False, indent=2)
    except (ValueError, RecursionError):
        return text


def _shorten(text: str, longest: int) -> str:
    """Return the text with what cannot be seen written out, its end left out where it is very long."""
    if len(text) <= longest:
        return words.visible(text)
    return f"{words.visible(text[:longest])}… ({words.number(len(text) - longest)} more characters)"
