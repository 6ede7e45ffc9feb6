"""Runs: the list, and one run by ?run=: watched live, cancelled, started again."""

from pages.parts.kit.guard import end_page
from pages.parts.kit.links import link
from pages.parts.kit.notices import draw_empty
from pages.parts.kit.state import ui, url_id
from pages.parts.tune.run import draw_run
from pages.parts.tune.run_list import draw_list

if not ui().alias:
    draw_empty("Choose a workspace first.", link("connect"), "Go to Connect")
    end_page()

if name := url_id("run"):
    draw_run(name)
else:
    draw_list()
