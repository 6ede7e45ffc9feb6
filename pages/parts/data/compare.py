"""A data set beside the one of the same name before it: numbers side by side, and the rows that came and went."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import streamlit as st

from core import dataset as datasets
from core.dataset import ChatDataset, Comparison, Row
from pages.parts.data.repair import describe_change
from pages.parts.kit import reads, words
from pages.parts.kit.notices import ready

T = TypeVar("T")
_SHOWN = 3
_CHARACTERS = 300


def draw(dataset: ChatDataset) -> None:
    """Draw the comparison; nothing where there was no version before."""
    looked = reads.work("previous", dataset.key, lambda: datasets.find_previous(dataset))
    previous = looked.value if looked.has_value else None
    if previous is None:
        return
    label = f"Compare with the version before, of {words.moment(previous.created_at)}"
    with st.expander(label, icon=":material/difference:", key="version-before"):
        compared = reads.work("compare", f"{dataset.key}:{previous.key}", lambda: datasets.compare(dataset, previous))
        if not ready(compared, "Comparing rows…", (120,), key="compare"):
            return
        st.table(_numbers(dataset, previous), hide_index=True, alt=compared.value.words)
        st.text(compared.value.words)
        _draw_rows(compared.value, dataset.unit_of("train"), previous.unit_of("train"))


def _numbers(now: ChatDataset, before: ChatDataset) -> list[dict[str, str]]:
    pairs = {
        "Training rows": (now.rows, before.rows),
        "Test rows": (now.test_rows, before.test_rows),
        now.stats.length_unit.capitalize(): (now.stats.total_length, before.stats.total_length),
        "Longest row": (now.stats.longest, before.stats.longest),
        "Errors": (now.errors, before.errors),
        "Warnings": (now.warnings, before.warnings),
    }
    if now.stats.length_unit != before.stats.length_unit:
        pairs = {name: pair for name, pair in pairs.items() if name[0] not in "TL" or "rows" in name}
    return [
        {"": name, "This": words.number(new), "Before": words.number(old), "Change": f"{new - old:+,}"}
        for name, (new, old) in pairs.items()
    ]


def _draw_rows(compared: Comparison, unit: str, unit_before: str) -> None:
    if compared.edited_rows:
        st.markdown("**Edited**")
        for change in _page(compared.edited_rows, compared.edited, "Edited"):
            st.caption(f"{unit} {words.number(change.line)}")
            st.code(words.visible(describe_change(change)), language=None, wrap_lines=True)
    new, gone = st.columns(2, gap="medium")
    for place, title, rows, count, called in (
        (new, "New", compared.added_rows, compared.added, unit),
        (gone, "Gone", compared.removed_rows, compared.removed, unit_before),
    ):
        with place:
            st.markdown(f"**{title}**")
            if not rows:
                st.text("No row.")
                continue
            for row in _page(rows, count, title):
                _draw_row(row, called)


def _page(rows: Sequence[T], count: int, title: str) -> Sequence[T]:
    """Draw the way to other pages and say how many rows there are; returns those of this page."""
    pages = -(-len(rows) // _SHOWN)
    at = st.pagination(pages, key=f"compare-{title}") if pages > 1 else 1
    if count > len(rows):
        st.caption(f"The first {len(rows)} of {words.number(count)} are shown.")
    return rows[(at - 1) * _SHOWN : at * _SHOWN]


def _draw_row(row: Row, unit: str) -> None:
    with st.container(border=True):
        st.caption(f"{unit} {words.number(row.line)}")
        st.text(words.visible(row.said[:_CHARACTERS]) + ("…" if len(row.said) > _CHARACTERS else ""))
