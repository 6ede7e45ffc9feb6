"""Overview: what runs, what is live, what bills, and the one next thing to do."""

import streamlit as st

from core.azureml.settings import LOCAL
from pages.parts.home import overview as parts
from pages.parts.kit.action import action
from pages.parts.kit.guard import end_page
from pages.parts.kit.links import link
from pages.parts.kit.live import live
from pages.parts.kit.notices import draw_empty, ready
from pages.parts.kit.state import ui
from pages.parts.kit.summary import read_summary
from pages.parts.operate.caps import draw_reached
from pages.parts.setup import choices

st.title("Overview")

if not ui().alias:
    parts.draw_newcomer()
    end_page()

summary = read_summary()
if not ready(summary.runs, "Reading what runs here…", (72, 110, 180), key="overview"):
    end_page()

next_place = parts.draw_next(summary)
if summary.connection is not None:
    draw_reached(summary.connection, summary)
rest = parts.runs_rest(summary)
live(
    lambda: parts.draw_now(next_place),
    key="overview",
    run_every=2.0 if summary.moving or not rest else None,
    token=parts.read_now_token(summary, rest),
)

if summary.complete and summary.answers and not summary.runs.value and not summary.draft:
    draw_empty("Nothing has run here yet. Start on this machine: it is free and takes a few minutes.")
    action("Start on this machine", choices.begin, LOCAL, key="start-here")
for problem in summary.inventory.value.problems if summary.inventory.value else ():
    st.caption(problem)
link("runs").draw("All runs", icon="monitoring")
