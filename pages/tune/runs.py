"""Runs: the list, and one run by ?run=: watched live, cancelled, started again."""

from pages.parts.links import link
from pages.parts.notices import draw_empty, end_page
from pages.parts.run_list import draw_list
from pages.parts.run_view import draw_run
from pages.parts.state import ui, url_id

if not ui().alias:
    draw_empty("Choose a workspace first.", link("connect"), "Go to Connect")
    end_page()

if name := url_id("run"):
    draw_run(name)
else:
    draw_list()
