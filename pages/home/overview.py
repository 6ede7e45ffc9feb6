"""Overview: what runs, what is live, what bills, and the one next thing to do."""

import streamlit as st

from core.connection import LOCAL
from pages.parts import overview_parts as parts
from pages.parts import setup
from pages.parts.action import action
from pages.parts.links import link
from pages.parts.live import live
from pages.parts.notices import draw_empty, end_page, ready
from pages.parts.state import ui
from pages.parts.summary import read_summary

st.title("Overview")

if not ui().alias:
    parts.draw_newcomer()
    end_page()

summary = read_summary()
if not ready(summary.runs, "Reading what runs here…", (72, 110, 180), key="overview"):
    end_page()

next_place = parts.draw_next(summary)
rest = parts.runs_rest(summary)
live(lambda: parts.draw_now(next_place), key="overview", run_every=2.0 if summary.moving or not rest else None,
     token=parts.read_now_token(summary, rest))  # fmt: skip

if summary.complete and summary.answers and not summary.runs.value and not summary.draft:
    draw_empty("Nothing has run here yet. Start on this machine: it is free and takes a few minutes.")
    action("Start on this machine", setup.begin, LOCAL, key="start-here", type="primary", then=lambda target: target)
for problem in summary.inventory.value.problems if summary.inventory.value else ():
    st.caption(problem)
link("runs").draw("All runs", icon="monitoring")
