"""The key in a button, drawn to be read: Streamlit 1.67 draws it at 3.5:1 (light) and 2.8:1 (dark), 4.5 is needed."""

from __future__ import annotations

import streamlit as st

_style = st.components.v2.component("tunedeck.key", css=".stButton kbd { opacity: 1; }", isolate_styles=False)


def style_keys() -> None:
    """Have the keys in buttons drawn in full; takes no room."""
    _style(key="key-hint", width="content")
