"""Activity: who did what here, and whether it arrived. Reads the ledger, changes nothing."""

import streamlit as st

from core import operations
from pages.parts import words
from pages.parts.notices import draw_empty
from pages.parts.stages import draw_operation
from pages.parts.state import ui

st.title("Activity", anchor=False)

known = operations.list_operations(ui().alias, limit=100)
if not known:
    draw_empty("Nothing has been changed yet.")
else:
    rows = [
        {"When": words.moment(one.created_at), "Who": one.user, "What": one.title, "State": one.state} for one in known
    ]
    st.dataframe(rows, hide_index=True, alt=f"{len(rows)} changes; the newest is {rows[0]['What']}, {rows[0]['State']}")
    by_id = {one.id: one for one in known[:12]}
    opened = st.radio(
        "Open a change",
        list(by_id),
        index=None,
        format_func=lambda key: words.plain(by_id[key].title),
        captions=[words.plain(f"{one.state} · {words.moment(one.created_at)}") for one in by_id.values()],
    )
    if opened:
        draw_operation(by_id[opened], key="activity")
