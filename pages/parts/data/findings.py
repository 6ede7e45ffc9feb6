"""What a check found, as groups: how many rows, the first lines, an example, the fix, and the way to the rows."""

from __future__ import annotations

from collections import Counter

import streamlit as st

from core.dataset import REPAIRS, Finding, Severity
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


def draw(findings: tuple[Finding, ...]) -> None:
    """Draw the findings, worst first."""
    if not findings:
        st.badge("No findings", icon=":material/check_circle:", color="green")
        return
    st.header("Findings")
    st.text(describe(findings))
    for finding in findings[:_AT_ONCE]:
        _draw_one(finding)
    if rest := findings[_AT_ONCE:]:
        with st.expander(f"{len(rest)} more"):
            for finding in rest:
                _draw_one(finding)


def describe(findings: tuple[Finding, ...]) -> str:
    """Return "2 kinds of error, 1 kind of warning. Errors block, warnings and hints do not."."""
    kinds = Counter(finding.kind.severity for finding in findings)
    counted = ", ".join(words.plural(kinds[severity], severity.value) for severity in Severity if kinds[severity])
    blocks = any(severity.blocks for severity in kinds)
    return f"{counted}. " + ("Errors must be mended first." if blocks else "None of them blocks.")


def _draw_one(finding: Finding) -> None:
    kind = finding.kind
    label, icon, colour = _MARKS[kind.severity]
    with st.container(border=True, gap="xsmall"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.badge(label, icon=icon, color=colour)  # type: ignore[arg-type]
            st.text(f"{kind.title} · {_where(finding)}", width="stretch")
            if finding.lines:
                key = f"show-{finding.file}-{finding.code}"
                action("Show rows", show_finding, finding.code, finding.file, key=key, icon="search")
        if finding.example and finding.example != kind.title:
            st.text(words.visible(finding.example))
        repair = f" A repair can do it: {REPAIRS[kind.code]}" if kind.code in REPAIRS else ""
        st.caption(words.plain(f"Fix: {kind.fix}{repair}"))


def _where(finding: Finding) -> str:
    """Return "3 rows: line 7, 12, 40 of the test file"."""
    file = " of the test file" if finding.file == "test" else ""
    if not finding.lines:
        return "whole file" + (" (test)" if file else "")
    lines = list(dict.fromkeys(finding.lines))
    shown = ", ".join(words.number(line) for line in lines[:_FIRST_LINES])
    more = "…" if len(lines) > _FIRST_LINES else ""
    if finding.count == 1:
        return f"line {shown}{file}"
    return f"{words.plural(finding.count, 'row')}: line {shown}{more}{file}"
