"""Runs side by side: their curves, what differs in their settings, what they came to, and their answers."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from core import overview
from core.errors import NotFound
from pages.parts.kit import reads, words
from pages.parts.kit.links import link
from pages.parts.kit.notices import draw_empty
from pages.parts.kit.steps import draw_badge


def draw_comparison(names: Sequence[str]) -> None:
    """Draw the runs with these names side by side, the first one as the baseline."""
    st.title("Compare", anchor=False)
    wanted = [name for name in dict.fromkeys(names) if name]
    if len(wanted) < 2:
        draw_empty("Choose two to six runs to compare.", link("runs"), "See all runs")
    for name in wanted:
        snapshot = reads.read(overview.read_run, name)
        if isinstance(snapshot.error, NotFound):
            draw_empty(snapshot.error.message, link("runs"), "See all runs")
        elif snapshot.value is not None:
            with st.container(horizontal=True, vertical_alignment="center"):
                link("runs", run=name).draw(words.plain(snapshot.value.title))
                draw_badge(snapshot.value.state)
