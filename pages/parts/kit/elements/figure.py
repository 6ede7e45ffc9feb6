"""A Plotly chart that is brought up to date in place.

`st.plotly_chart` of Streamlit 1.67 takes the chart out of the page and puts another in at each new point (its identity
holds the figure), which flickers and loses the zoom; under a fixed identity it never draws new data. So the figure goes
to `Plotly.react`, which redraws what changed and keeps the zoom as long as `uirevision` stays. The library is the one
that the Python package brings along, 5 MB that the browser fetches once; a browser test holds all this.

A change of the theme draws no page again, so the browser puts its colours into the figure by itself.
"""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.parts.kit import assets
from pages.parts.kit.look import DARK, LIGHT

CONFIG: dict[str, Any] = {
    "displaylogo": False,
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
    "responsive": True,
}
HEIGHT = 340
NARROW_BELOW = 520  # px: a chart in a window of 420 px is 388 px wide
NARROW_HEIGHT = 260
_DARK = dict(zip(LIGHT.colours, DARK.colours, strict=True))
_DRAW = """
export default function ({ data, parentElement }) {
  let chart = parentElement.querySelector(":scope > .tunedeck-chart");
  if (!chart) {
    chart = document.createElement("div");
    chart.className = "tunedeck-chart";
    parentElement.appendChild(chart);
  }
  chart.setAttribute("role", "figure");
  chart.setAttribute("aria-label", data.alt);
  const height = () => {
    const isNarrow = chart.clientWidth > 0 && chart.clientWidth < data.narrow_below;
    return isNarrow ? Math.min(data.height, data.narrow_height) : data.height;
  };
  chart.style.height = height() + "px";
  chart.newest = data;
  if (!window.Plotly && !document.getElementById("tunedeck-plotly")) {
    const library = document.createElement("script");
    library.id = "tunedeck-plotly";
    library.src = data.library;
    library.onerror = () => library.remove();  // the next drawing asks again
    document.head.appendChild(library);
  }
  const draw = () => {
    if (chart.newest !== data || !chart.isConnected) return;
    // a figure that comes while the reader drags a zoom would undo it: Plotly's own mark says so
    if (!window.Plotly || chart._dragging) { setTimeout(draw, 40); return; }
    const isDark = getComputedStyle(chart).colorScheme === "dark";
    const recolour = (colour) => (isDark && data.dark[colour]) || colour;
    const figure = JSON.parse(data.figure.replace(/#[0-9A-F]{6}/g, recolour));
    chart.isDark = isDark;
    figure.layout.height = height();
    chart.style.height = figure.layout.height + "px";
    const config = { ...data.config, displayModeBar: matchMedia("(hover: none)").matches ? false : "hover" };
    window.Plotly.react(chart, figure.data, figure.layout, config);
  };
  draw();
  chart.redraw = draw;
  chart.refit = () => { if (chart.style.height !== height() + "px") draw(); };
  if (!chart.observer) {
    chart.observer = new ResizeObserver(() => chart.refit());
    chart.observer.observe(chart);
    chart.themes = new MutationObserver(() => {
      if ((getComputedStyle(chart).colorScheme === "dark") !== chart.isDark) chart.redraw();
    });
    chart.themes.observe(chart.closest("[data-testid=stApp]"), { attributeFilter: ["class"] });
  }
}
"""
_chart = st.components.v2.component("tunedeck.chart", js=_DRAW, isolate_styles=False)


def draw_figure(figure: str, *, key: str, alt: str, height: int = HEIGHT) -> None:
    """Draw a figure (its JSON), or bring the one with this key up to date. alt: its conclusion in words."""
    data = {
        "figure": figure,
        "alt": alt,
        "library": assets.address(assets.PLOTLY),
        "height": height,
        "config": CONFIG,
        "dark": _DARK,
        "narrow_below": NARROW_BELOW,
        "narrow_height": NARROW_HEIGHT,
    }
    _chart(key=key, data=data)
