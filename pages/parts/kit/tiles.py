"""A number as a tile."""

from __future__ import annotations

from typing import Literal

import streamlit as st


def draw_tile(
    label: str,
    value: str | int,
    note: str | None = None,
    *,
    colour: Literal["off", "inverse"] = "off",
    help: str | None = None,
) -> None:
    """Draw a number with a note beneath it. colour: "inverse" shows the note as a change of which less is better."""
    arrow: Literal["off", "auto"] = "off" if colour == "off" else "auto"
    st.metric(label, value, note, colour, delta_arrow=arrow, border=True, height="stretch", help=help)
