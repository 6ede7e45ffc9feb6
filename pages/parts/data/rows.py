"""Conversations of a data set, a page at a time: as chat, with JSON, or token by token. Row text is never markup."""

from __future__ import annotations

import json
from pathlib import Path

import streamlit as st

from core import dataset as datasets
from core.dataset import CODES, ChatDataset, Finding, Row
from core.dataset.model_process import identify
from core.dataset.model_view import view_as_model
from pages.parts.kit import reads, words
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


def draw(found: ChatDataset, findings: tuple[Finding, ...], tokenizer: Path | None, limit: int) -> None:
    """Draw the rows that search, finding and line choose. limit: after how many tokens a row is cut, -1: nowhere."""
    st.header("Conversations")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        file = _draw_file(found)
        view = str(st.segmented_control("Show as", (CHAT, WITH_JSON, AS_MODEL), default=CHAT, required=True, key="as"))
    path = found.test_path if file == "test" and found.test_path else found.train_path
    codes = {one.code: one for one in findings if one.file == file and one.lines}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        text = (st.text_input("Search rows", type="search", live="400ms", key="rows-search") or "").strip()
        code = _draw_filter(codes)
        mark = _TEST_ROW if file == "test" else ""
        line = _draw_line(mark)
    set_url_id("row", f"{mark}{line}" if line else None)
    if line:
        place = datasets.find_place(path, line)
        rows = [] if place is None else list(datasets.read_page(path, place, 1, mark=found.mark).rows)
        if not rows:
            st.text(f"There is no row on line {words.number(line)}.")
    else:
        rows = _draw_pages(found, path, code, text, limit)
    for row in rows:
        _draw_row(row, view, tokenizer, limit, alone=bool(line))


def show_finding(code: str, file: str) -> None:
    """Have the next run of the page show the rows with a finding."""
    st.session_state["rows-finding"] = code
    st.session_state["rows-of"] = "Test" if file == "test" else "Train"
    st.session_state["rows-search"] = ""
    _open(None)


def _draw_file(found: ChatDataset) -> str:
    if found.test_path is None:
        return "train"
    if "rows-of" not in st.session_state and (url_id("row") or "").startswith(_TEST_ROW):
        st.session_state["rows-of"] = "Test"
    chosen = st.segmented_control("Rows of", ("Train", "Test"), default="Train", required=True, key="rows-of")
    return str(chosen).lower()


def _draw_filter(codes: dict[str, Finding]) -> str:
    if not codes:
        return _ALL
    if st.session_state.get("rows-finding") not in (None, _ALL, *codes):
        st.session_state["rows-finding"] = _ALL
    chosen = st.selectbox(
        "With the finding",
        [_ALL, *codes],
        key="rows-finding",
        format_func=lambda code: f"{codes[code].title} ({words.number(codes[code].count)})" if code else "All rows",
    )
    return str(chosen or _ALL)


def _draw_line(mark: str) -> int | None:
    """Draw the jump to a line; the address says which it is at first, where it is one of this file's."""
    wanted = (url_id("row") or "").removeprefix(mark)
    if "rows-line" not in st.session_state and wanted.isdigit() and 0 < int(wanted) < 10**9:
        st.session_state["rows-line"] = int(wanted)
    chosen = st.number_input("Go to line", min_value=1, value=None, step=1, key="rows-line", placeholder="All")
    return int(chosen) if chosen else None


def _open(line: int | None) -> None:
    st.session_state["rows-line"] = line


def _draw_pages(found: ChatDataset, path: Path, code: str, text: str, limit: int) -> list[Row]:
    """Draw the way to other pages; returns the rows of this one."""
    if text:
        return _draw_search(found, path, code, text, limit)
    first = datasets.read_page(path, 0, _PER_PAGE, code, "", found.mark, limit)
    total = first.total or 0
    if not total:
        st.text("No row has this finding." if code else "There are no rows.")
    pages = max(1, -(-total // _PER_PAGE))
    at = st.pagination(pages, key=f"rows-page-{path.name}-{code}") if pages > 1 else 1
    st.caption(f"{words.plural(total, 'row')}, page {words.number(at)} of {words.number(pages)}")
    if at == 1:
        return list(first.rows)
    return list(datasets.read_page(path, (at - 1) * _PER_PAGE, _PER_PAGE, code, "", found.mark, limit).rows)


def _draw_search(found: ChatDataset, path: Path, code: str, text: str, limit: int) -> list[Row]:
    """Search a slice of the file; where it ends before the file does, the operator goes on from there."""
    asked = (str(path), code, text, limit)
    if ui().notes.get("search", (None,))[0] != asked:
        ui().notes["search"] = (asked, [0])
    starts: list[int] = ui().notes["search"][1]
    page = datasets.read_page(path, starts[-1], _PER_PAGE, code, text, found.mark, limit)
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
    parts += [CODES[code].title for code in row.codes]
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
    key, asked = f"model-view-{row.line}", f"{identify(tokenizer)}:{limit}:{hash(row.text)}"
    viewed = reads.work(key, asked, lambda: view_as_model(row.messages, tokenizer, limit), alone=True)
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
