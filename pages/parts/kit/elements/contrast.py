"""What Streamlit 1.67 draws too faint to read, drawn to be read: at least 4.5:1, as WCAG 2.2 (1.4.3) asks.

The key in a button has 3.5:1 (light) and 2.8:1 (dark); a chosen segment, a chosen pill and a slider's value have 3.6:1
in the dark, in the primary colour. No theme colour mends them: white on the primary colour has to be read, too. What is
chosen keeps its ground and border.
"""

from __future__ import annotations

import streamlit as st

_STYLE = """
.stButton kbd { opacity: 1; }
:root [data-testid="stButtonGroup"] button[data-selected="true"]:not([disabled]),
:root [data-testid="stSlider"] [data-testid="stSliderThumbValue"] { color: inherit; }
"""
_style = st.components.v2.component("tunedeck.contrast", css=_STYLE, isolate_styles=False)


def raise_contrast() -> None:
    """Have the whole page drawn so; takes no room."""
    _style(key="contrast", width="content")
