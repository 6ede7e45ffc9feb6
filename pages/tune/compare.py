"""Compare: two to six runs by ?runs=a,b, or the runs of a group by ?group=, side by side."""

import streamlit as st

from pages.parts.kit import words
from pages.parts.kit.guard import end_page
from pages.parts.kit.links import link
from pages.parts.kit.notices import draw_empty
from pages.parts.kit.state import ui, url_id
from pages.parts.tune.compare import draw_comparison
from pages.parts.tune.group import draw_group

if not ui().alias:
    draw_empty("Choose a workspace first.", link("connect"), "Go to Connect")
    end_page()

group = url_id("group")
st.title(words.plain(f"Compare {group}") if group else "Compare", anchor=False)
draw_comparison(draw_group(group) if group else (url_id("runs", 2000) or "").split(","))
