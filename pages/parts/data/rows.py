"""Conversations of a data set, a page at a time: as chat, with JSON, or token by token. Row text is never markup."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import streamlit as st

from core import dataset as datasets
from core.dataset import KINDS, ChatDataset, DataFile, Finding, Row
from pages.parts.kit import fields, reads, words
from pages.parts.kit.action import action
from pages.parts.kit.elements.tokens import draw_tokens
from pages.parts.kit.notices import ready
from pages.parts.kit.state import set_url_id, ui, url_id

CHAT, WITH_JSON, AS_MODEL = "Chat", "Chat and JSON", "As the model sees it"
_PER_PAGE = 3
_SHOWN_CHARACTERS = 1_500  # of a message in a list; a row that is opened alone is shown to _OPENED_CHARACTERS
_OPENED_CHARACTERS = 50_000
_SHOWN_TOKENS = 3_000
_ICONS = {"user": ":material/person:", "assistant": ":material/smart_toy:", "system": ":material/settings:"}
_ALL = ""
_TEST_ROW = "test-"  # before the line of a test row in the address: ?row=test-12


def draw(dataset: ChatDataset, findings: tuple[Finding, ...], tokenizer: Path | None, limit: int) -> None:
    """Draw the rows that search, finding and line choose. limit: after how many tokens a row is cut, -1: nowhere."""
    st.header("Conversations")
    chosen = _read_chosen()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        file: DataFile = _draw_file(chosen.file) if dataset.test_path else "train"
        view = str(st.segmented_control("Show as", (CHAT, WITH_JSON, AS_MODEL), default=CHAT, required=True, key="as"))
    path = dataset.path_of(file)
    codes = {finding.code: finding for finding in findings if finding.file == file and finding.lines}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        text = _draw_search_field(chosen.text)
        code = _draw_filter(chosen.code, codes) if codes else _ALL
        line = _draw_line(chosen.line)
    set_url_id("row", f"{_TEST_ROW if file == 'test' else ''}{line}" if line else None)
    if line:
        row = datasets.find_row(path, line, dataset.mark)
        rows = [row] if row else []
        if not rows:
            st.text(f"There is no row on line {words.number(line)}.")
    else:
        rows = _draw_pages(dataset, path, code, text, limit)
    for row in rows:
        _draw_row(row, view, tokenizer, limit, alone=bool(line))


@dataclass(frozen=True)
class Chosen:
    """Which rows are shown."""

    file: DataFile = "train"
    code: str = _ALL
    text: str = ""
    line: int | None = None


def show_finding(code: str, file: DataFile) -> None:
    """Show the rows with a finding."""
    ui().view["rows"] = Chosen(file, code)


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


def _draw_line(line: int | None) -> int | None:
    options = fields.follow(fields.place("rows-line", line), "The line", _choose, "line")
    st.number_input("Go to line", min_value=1, value=line, step=1, placeholder="All", **options)
    return line


def _draw_pages(dataset: ChatDataset, path: Path, code: str, text: str, limit: int) -> list[Row]:
    """Draw the way to other pages; returns the rows of this one."""
    if text:
        return _draw_search(dataset, path, code, text, limit)
    first = datasets.read_page(path, 0, _PER_PAGE, code, "", dataset.mark, limit)
    total = first.total or 0
    if not total:
        st.text("No row has this finding." if code else "There are no rows.")
    pages = max(1, -(-total // _PER_PAGE))
    at = st.pagination(pages, key=f"rows-page-{path.name}-{code}") if pages > 1 else 1
    st.caption(f"{words.plural(total, 'row')}, page {words.number(at)} of {words.number(pages)}")
    if at == 1:
        return list(first.rows)
    return list(datasets.read_page(path, (at - 1) * _PER_PAGE, _PER_PAGE, code, "", dataset.mark, limit).rows)


def _draw_search(dataset: ChatDataset, path: Path, code: str, text: str, limit: int) -> list[Row]:
    """Search a slice of the file; where it ends before the file does, the operator goes on from there."""
    asked = (str(path), code, text, limit)
    if ui().notes.get("search", (None,))[0] != asked:
        ui().notes["search"] = (asked, [0])
    starts: list[int] = ui().notes["search"][1]
    page = datasets.read_page(path, starts[-1], _PER_PAGE, code, text, dataset.mark, limit)
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


def _draw_row(row: Row, view: str, tokenizer: Path | None, limit: int, *, alone: bool) -> None:
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(words.plain(_describe(row)), width="stretch")
            if alone:
                action("Show all rows", _open, None, key="close-row", icon="close")
            else:
                action(f"Open line {row.line}", _open, row.line, key=f"open-row-{row.line}", icon="open_in_full")
        longest = _OPENED_CHARACTERS if alone else _SHOWN_CHARACTERS
        if not row.messages:
            st.text(_shorten(row.text, longest))
        elif view == AS_MODEL:
            _draw_as_model(row, tokenizer, limit)
        elif view == WITH_JSON:
            chat, raw = st.columns(2, gap="medium")
            with chat:
                _draw_chat(row, longest)
            with raw:
                st.code(_shorten(_pretty(row.text), longest * 3), language=None, wrap_lines=True)
        else:
            _draw_chat(row, longest)


def _describe(row: Row) -> str:
    parts = [f"line {row.line}"]
    if row.tokens:
        parts.append(f"{words.plural(row.tokens, 'token')}, {words.number(row.trained)} learned")
    if not row.messages:
        parts.append("cannot be read as a conversation")
    parts += [KINDS[code].title for code in row.codes]
    return " · ".join(parts)


def _draw_chat(row: Row, longest: int) -> None:
    for message in row.messages:
        role = message["role"]
        with st.chat_message(role, avatar=_ICONS.get(role, ":material/build:")):
            st.text(_shorten(message["content"], longest))
    if row.tools:
        with st.expander("Tools"):
            st.code(_shorten(_pretty(row.tools), longest), language=None, wrap_lines=True)


def _draw_as_model(row: Row, tokenizer: Path | None, limit: int) -> None:
    if tokenizer is None:
        st.text("The chosen model's tokenizer is not on this machine, so its tokens cannot be shown.")
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
    draw_tokens(shown, key=f"tokens-{row.line}", alt=f"Line {row.line} as the model sees it: {said}.")
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
