"""Activity: who did what here, and whether it arrived. What failed can be tried again; nothing else is changed."""

import streamlit as st

from core import operations
from pages.parts.kit.live import live
from pages.parts.kit.notices import draw_empty
from pages.parts.kit.state import ui, url_id
from pages.parts.operate.activity import draw_change, draw_changes
from pages.parts.operate.alerts import draw_alerts

st.title("Activity", anchor=False)

known = operations.list_operations(ui().alias, limit=100)
if wanted := url_id("change"):
    if opened := operations.find_operation(wanted):
        draw_change(opened)
        if known:
            st.header("All changes", anchor=False)
    else:
        st.text(f"There is no change '{wanted}' here.")
if not known:
    draw_empty("Nothing has been changed yet.")
else:
    moving = any(not one.finished for one in known)
    live(draw_changes, key="activity", run_every=2.0 if moving else None)
draw_alerts(ui().alias)
