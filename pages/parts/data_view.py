"""What a data set holds: counts, findings, conversations and lengths. Its text is untrusted: never Markdown."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from core import dataset as datasets
from core import models, recipe
from core.dataset import ChatDataset, Problem, Row
from core.drafts import Draft
from pages.parts import charts, reads, words
from pages.parts.notices import ready
from pages.parts.state import url_id

_PER_PAGE = 3
_SHOWN_FINDINGS = 8
_ICONS = {"user": ":material/person:", "assistant": ":material/smart_toy:", "system": ":material/settings:"}


def read_limit(draft: Draft) -> int:
    """Return after how many tokens a row is cut, -1 where that is not known."""
    if not draft.model:
        return -1
    model = reads.read(models.get_base_model, draft.model, draft.model_version or "latest", max_age_s=300.0).value
    if model is None:
        return -1
    limit = recipe.build_recipe(model.defaults, draft.parameters).values.get("max_seq_length", -1)
    return int(limit) if int(limit) > 0 else model.context_length or -1


def draw_tiles(found: ChatDataset, limit: int) -> None:
    """Draw how many rows and tokens there are."""
    stats = found.stats
    unit = "Tokens" if stats.length_unit == "tokens" else "Tokens, about"
    with st.grid(4, min_column_width=160):
        st.metric("Train", words.number(found.rows), border=True, height="stretch")
        st.metric("Test", words.number(found.test_rows), border=True, height="stretch", help=found.split_note or None)
        st.metric(unit, words.number(stats.total_length), border=True, height="stretch")
        cut = words.number(stats.count_longer(limit)) if limit > 0 else "0"
        st.metric("Cut rows", cut, border=True, height="stretch", help=_cut_help(limit))
    st.caption(words.plain(f"{found.name} · {found.source} · {found.split_note}".rstrip(" ·")))


def draw_findings(found: ChatDataset, limit: int) -> None:
    """Draw what is wrong, worst first, with the line and the way to mend it."""
    problems = sorted(found.problems, key=lambda problem: problem.severity != "error")
    cut = found.stats.count_longer(limit) if limit > 0 else 0
    if not problems and not cut:
        st.badge("No findings", icon=":material/check_circle:", color="green")
        return
    errors, warnings = _count(found, "errors"), _count(found, "warnings") + bool(cut)
    with st.container(border=True):
        st.header("Findings")
        st.text(f"{words.plural(errors, 'error')}, {words.plural(warnings, 'warning')}")
        if cut:
            unit = found.stats.length_unit
            st.text(f"{words.plural(cut, 'row')} longer than {words.number(limit)} {unit}: the end is cut off.")
        if problems:
            rows = [_finding(problem) for problem in problems[:_SHOWN_FINDINGS]]
            st.table(rows, hide_index=True, alt=f"{errors} errors and {warnings} warnings, with line and fix")
        if len(problems) > _SHOWN_FINDINGS:
            st.caption(f"The first {_SHOWN_FINDINGS} of {words.number(errors + warnings)} are shown.")
        if errors:
            _draw_repair(found)


def draw_conversations(found: ChatDataset) -> None:
    """Draw rows as chats or as JSON, a page at a time, with a search."""
    st.header("Conversations")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        split = "Train"
        if found.test_path is not None:
            split = st.segmented_control("Rows of", ("Train", "Test"), default="Train", required=True, key="split")
        view = st.segmented_control("Show as", ("Chat", "JSON"), default="Chat", required=True, key="rows-as")
        search = st.text_input("Search rows", type="search", live="400ms", key="rows-search")
        flawed = st.toggle("With findings", key="rows-flawed") if found.train.problems else False
    path, total = (found.train_path, found.rows) if split == "Train" else (found.test_path, found.test_rows)
    if path is None:
        return
    rows = _read_page(found, path, total, (search or "").strip(), bool(flawed) and split == "Train")
    if rows is None:
        return
    for row in rows:
        _draw_row(row, as_json=view == "JSON")
    if not rows:
        st.text(f"No row holds '{search}'." if search else "There are no rows.")


def draw_lengths(found: ChatDataset, limit: int) -> None:
    """Draw how long the rows are."""
    st.header("Length in tokens")
    stats = found.stats
    if not stats.lengths:
        st.text("No row could be measured.")
        return
    charts.draw_lengths(stats.histogram(), limit=limit if 0 < limit <= stats.longest * 2 else None)
    average = stats.total_length / max(1, found.rows)
    st.caption(f"Average {words.number(average)}, longest {words.number(stats.longest)} {stats.length_unit}.")
    turns = ", ".join(f"{words.number(rows)} with {count}" for count, rows in sorted(stats.turns.items())[:4])
    if turns:
        st.caption(f"Messages a row: {turns}.")


def _read_page(found: ChatDataset, path: Path, total: int, search: str, flawed: bool) -> list[Row] | None:
    """Return the rows of the page chosen below; None while a search still reads."""
    if search:
        hits = reads.work("find-rows", f"{path}:{search}", lambda: datasets.find_rows(path, search))
        if not ready(hits, "Searching…", (120,), key="find-rows"):
            return None
        shown = hits.value
        start = _draw_pages(len(shown), "search-page", 1)
        return shown[start : start + _PER_PAGE]
    if flawed:
        lines = list(datasets.list_problem_lines(found.train))
        start = _draw_pages(len(lines), "flawed-page", 1)
        found_rows = (datasets.find_row(path, line) for line in lines[start : start + _PER_PAGE])
        return [row for row in found_rows if row is not None]
    wanted = url_id("row") or "1"
    first = (int(wanted) - 1) // _PER_PAGE + 1 if wanted.isdigit() and 0 < int(wanted) <= total else 1
    start = _draw_pages(total, f"rows-page-{path.name}", first)
    return datasets.read_rows(path, start, _PER_PAGE)


def _draw_pages(count: int, key: str, first: int) -> int:
    """Draw the pages; returns the index of the first row on the chosen one."""
    pages = max(1, -(-count // _PER_PAGE))
    if pages == 1:
        return 0
    return (st.pagination(pages, default=min(first, pages), key=key) - 1) * _PER_PAGE


def _draw_row(row: Row, *, as_json: bool) -> None:
    with st.container(border=True):
        if as_json or not row.messages:
            st.code(row.text, language="json" if row.messages else None, wrap_lines=True)
        else:
            for message in row.messages:
                role = str(message.get("role", ""))
                with st.chat_message(role or "unknown", avatar=_ICONS.get(role, ":material/help:")):
                    st.text(str(message.get("content", "")))
        st.caption(f"row {row.line}" + ("" if row.messages else " · cannot be read as a conversation"))


def _finding(problem: Problem) -> dict[str, str]:
    mark = ":material/error: error" if problem.severity == "error" else ":material/warning: warning"
    line = f"line {problem.line}" if problem.line else "whole file"
    return {
        "What": mark, "Where": line, "Finding": words.plain(problem.message), "How to fix": words.plain(problem.fix)
    }  # fmt: skip


def _count(found: ChatDataset, which: str) -> int:
    reports = [report for report in (found.train, found.test) if report]
    return sum(int(getattr(report, which)) for report in reports)


def _draw_repair(found: ChatDataset) -> None:
    st.download_button(
        "Download repaired", lambda: datasets.read_repaired(found.train_path), f"{found.name}-repaired.jsonl",
        icon=":material/build:", key="repaired", on_click="ignore",
    )  # fmt: skip


def _cut_help(limit: int) -> str:
    return f"Rows longer than {words.number(limit)} tokens lose their end." if limit > 0 else "No limit is known yet."
