"""What a check found, as groups: how many rows, the first lines, an example, the fix, and the way to the rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import streamlit as st

from core import dataset as datasets
from core.dataset import REPAIRS, ChatDataset, Finding, Severity
from pages.parts.data.rows import show_finding
from pages.parts.kit import words
from pages.parts.kit.action import action

_AT_ONCE = 5
_FIRST_LINES = 5
_MARKS = {
    Severity.ERROR: ("Error", ":material/error:", "red"),
    Severity.WARNING: ("Warning", ":material/warning:", "orange"),
    Severity.HINT: ("Hint", ":material/info:", "gray"),
}


def draw(dataset: ChatDataset, findings: tuple[Finding, ...], limit: int) -> None:
    """Draw the findings, worst first, and those that are set aside folded. limit: at which rows are cut."""
    standing = [finding for finding in findings if not dataset.is_set_aside(finding)]
    aside = [finding for finding in findings if dataset.is_set_aside(finding)]
    if not standing:
        st.badge("No other findings" if aside else "No findings", icon=":material/check_circle:", color="green")
    else:
        st.header("Findings")
        st.text(describe(standing))
        for finding in standing[:_AT_ONCE]:
            _draw_one(dataset, finding)
        if rest := standing[_AT_ONCE:]:
            with st.expander(f"{len(rest)} more", key="more-findings"):
                for finding in rest:
                    _draw_one(dataset, finding)
    if aside:
        rows = datasets.count_rows(dataset, aside, limit)
        label = f"{words.plural(len(aside), 'group')} set aside, {words.plural(rows, 'row')}"
        with st.expander(label, key="set-aside"):
            for finding in aside:
                _draw_one(dataset, finding)


def describe(findings: Sequence[Finding]) -> str:
    """Return "2 kinds of error, 1 kind of warning. Errors must be mended first."."""
    kinds = Counter(kind.severity for kind in {finding.code: finding.kind for finding in findings}.values())
    found = [severity for severity in Severity if kinds[severity]]
    counted = ", ".join(f"{words.plural(kinds[severity], 'kind')} of {severity.value}" for severity in found)
    blocks = any(severity.blocks for severity in kinds)
    return f"{counted}. " + ("Errors must be mended first." if blocks else "None of them blocks.")


def _draw_one(dataset: ChatDataset, finding: Finding) -> None:
    kind = finding.kind
    label, icon, colour = _MARKS[kind.severity]
    with st.container(border=True):
        said, ways = st.columns([7, 2], vertical_alignment="center")
        with said, st.container(gap="xsmall"):
            with st.container(horizontal=True, vertical_alignment="center"):
                st.badge(label, icon=icon, color=colour)  # type: ignore[arg-type]
                st.text(f"{kind.title} · {_where(finding, dataset.unit_of(finding.file))}", width="stretch")
            if finding.example and finding.example != kind.title:
                st.text(words.visible(finding.example))
            repair = f" A repair can do it: {REPAIRS[kind.code]}" if kind.code in REPAIRS else ""
            st.caption(words.plain(f"Fix: {kind.fix}{repair}"))
        with ways, st.container(horizontal=True, gap="xsmall"):
            _draw_ways(dataset, finding)


def _draw_ways(dataset: ChatDataset, finding: Finding) -> None:
    """Draw what can be done about a finding here."""
    key, of = f"{finding.file}-{finding.code}", (dataset.folder, finding.code, finding.file)
    if finding.lines:
        action("Show rows", show_finding, finding.code, finding.file, key=f"show-{key}", icon="search", width="stretch")
    if dataset.is_set_aside(finding):
        action("Count it again", datasets.take_back, *of, key=f"take-back-{key}", icon="undo", width="stretch")
    elif datasets.may_be_set_aside(finding.code):
        action("Not a problem here", datasets.put_aside, *of, key=f"aside-{key}", icon="check", width="stretch")


def _where(finding: Finding, unit: str) -> str:
    """Return "3 rows: line 7, 12, 40 of the test file"."""
    file = " of the test file" if finding.file == "test" else ""
    if not finding.lines:
        return "whole file" + (" (test)" if file else "")
    lines = list(dict.fromkeys(finding.lines))
    shown = ", ".join(words.number(line) for line in lines[:_FIRST_LINES])
    more = "…" if len(lines) > _FIRST_LINES else ""
    if finding.count == 1:
        return f"{unit} {shown}{file}"
    return f"{words.plural(finding.count, 'row')}: {unit} {shown}{more}{file}"
