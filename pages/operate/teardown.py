"""Teardown: what exists and costs, one button that deletes what is ticked, the proof that it is gone."""

import streamlit as st

from core import operations
from pages.parts.kit import reads
from pages.parts.kit.guard import end_page
from pages.parts.kit.links import link
from pages.parts.kit.notices import draw_age, draw_empty, ready
from pages.parts.kit.state import url_id
from pages.parts.operate import idle, month, panic, receipts
from pages.parts.operate import teardown as view
from pages.parts.operate.caps import draw_limits
from pages.parts.operate.tree import draw_tree

st.title("Teardown", anchor=False)

conn = reads.find_connection()
if conn is None:
    draw_empty("Choose a workspace first.", link("connect"), "Go to Connect")
    end_page()

snapshot = reads.read(operations.list_everything, max_age_s=4.0)
if begun := url_id("operation"):
    view.draw_operation_of(begun, snapshot.value)
if not ready(snapshot, "Asking the workspace what exists…", (96, 64, 64), key="inventory") or snapshot.value is None:
    end_page()
inventory = snapshot.value
view.draw_tiles(conn, inventory)
draw_age(snapshot)
draw_limits(conn, inventory)
st.header("What exists", anchor=False)
picks = draw_tree(inventory, view.find_picked())
if picks.rows:
    with st.bottom, st.container(horizontal=True, vertical_alignment="center"):  # in view, however many rows there are
        view.draw_button(view.find_plan(conn, inventory, picks), len(picks.keys))
idle.draw_proposals()
view.draw_stays(inventory)
receipts.draw_receipts()
month.draw_month(conn)
panic.draw_panic(conn)
