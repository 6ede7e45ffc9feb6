"""Compare: two to six runs by ?runs=a,b, or the runs of a sweep by ?group=, side by side."""

from pages.parts.kit.guard import end_page
from pages.parts.kit.links import link
from pages.parts.kit.notices import draw_empty
from pages.parts.kit.state import ui, url_id
from pages.parts.tune.compare import draw_comparison

if not ui().alias:
    draw_empty("Choose a workspace first.", link("connect"), "Go to Connect")
    end_page()

draw_comparison((url_id("runs", 2000) or "").split(","))
