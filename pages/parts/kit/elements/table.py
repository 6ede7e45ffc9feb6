"""A table of things that exist: a row opens what it shows, and rows can be ticked and sorted.

`st.dataframe` of Streamlit 1.67 paints on a canvas. Enter does nothing there, and a click is not told from an arrow
key, so no row can be opened by keyboard; its headings sort the rows of one page only. Here a row is a link and a
checkbox in a real table, which browsers, keyboards and screen readers know. What changes is changed in place: the
focus, the ticks and the scroll stay. Cells are text nodes, so nothing in a name can become an element.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import streamlit as st

from pages.parts.kit.links import Link

_DRAW = """
const make = (tag, props = {}, ...inside) => {
  const made = Object.assign(document.createElement(tag), props);
  made.append(...inside);
  return made;
};
const write = (node, text) => { if (node.textContent !== text) node.textContent = text; };
const mark = (cell) => [
  Object.assign(make("span", { className: "icon", textContent: cell.icon }), { ariaHidden: "true" }), cell.word];
const draw_curve = (values) => {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  const low = Math.min(...values), high = Math.max(...values), wide = Math.max(1, values.length - 1);
  line.setAttribute("points", values.map((value, at) =>
    (at * 96 / wide).toFixed(1) + "," + (2 + 20 * (high - value) / (high - low || 1)).toFixed(1)).join(" "));
  svg.setAttribute("viewBox", "0 0 96 24");
  svg.setAttribute("aria-hidden", "true");
  svg.append(line);
  return svg;
};
const fill = (place, cell) => {
  const told = JSON.stringify(cell);
  if (place.told === told) return;
  place.told = told;
  if (Array.isArray(cell)) place.replaceChildren(...(cell.length > 1 ? [draw_curve(cell)] : []));
  else if (cell.word) {
    place.replaceChildren(...mark(cell));
    place.style.color = `var(--st-${cell.colour}-text-color)`;
  } else write(place, cell);
};
const dress = (place, column) => { place.className = `${column.kind} from${column.from_px}`; };

export default function ({ data, parentElement, setStateValue, setTriggerValue }) {
  let box = parentElement.querySelector(".box");
  if (!box) {
    box = make("div", { className: "box", rows: new Map(), ticked: new Set() });
    box.append(make("table", {}, make("thead", {}, make("tr")), make("tbody")));
    parentElement.append(box);
  }
  const [head, body] = [box.querySelector("thead tr"), box.querySelector("tbody")];
  box.querySelector("table").setAttribute("aria-label", data.alt);
  if (box.turn !== data.turn) {
    box.ticked = new Set(data.ticked);
    if (box.turn !== undefined) setStateValue("ticked", data.ticked);
    box.turn = data.turn;
  }
  const show_ticks = () => {
    for (const [id, row] of box.rows) {
      row.classList.toggle("ticked", box.ticked.has(id));
      if (row.tick) row.tick.checked = box.ticked.has(id);
    }
    const count = data.rows.filter((row) => box.ticked.has(row.id)).length;
    if (box.all) Object.assign(box.all, { checked: count > 0, indeterminate: 0 < count && count < data.rows.length });
  };
  const tick = (ids, on) => {
    ids.forEach((id) => box.ticked[on ? "add" : "delete"](id));
    show_ticks();
    setStateValue("ticked", [...box.ticked]);
  };
  const checkbox = (label, ids) => {
    const field = make("input", { type: "checkbox", onchange: () => tick(ids(), field.checked) });
    field.setAttribute("aria-label", label);
    return field;
  };

  const shape = JSON.stringify([data.columns, data.tickable]);
  if (box.shape !== shape) {
    box.shape = shape;
    box.rows.forEach((row) => row.remove());
    box.rows.clear();
    head.replaceChildren(...data.columns.map((column) => {
      const place = make("th", { scope: "col" });
      dress(place, column);
      place.append(column.sorts
        ? make("button", { type: "button", onclick: () => setTriggerValue("sorted", column.title) }, column.title)
        : column.title);
      return place;
    }));
    box.all = data.tickable ? checkbox("Tick all shown", () => box.shown) : null;
    if (box.all) head.prepend(make("td", { className: "tick" }, make("label", {}, box.all)));
  }
  box.shown = data.rows.map((row) => row.id);
  const down = data.sort.startsWith("-"), by = data.sort.replace(/^-/, "");
  [...head.querySelectorAll("th")].forEach((place, at) => {
    const sorts = data.columns[at].title === by;
    if (sorts) place.setAttribute("aria-sort", down ? "descending" : "ascending");
    else place.removeAttribute("aria-sort");
  });

  const held = box.getRootNode().activeElement;
  for (const [id, row] of box.rows) if (!box.shown.includes(id)) { row.remove(); box.rows.delete(id); }
  data.rows.forEach((told, at) => {
    let row = box.rows.get(told.id);
    if (!row) {
      row = make("tr");
      row.link = make("a");
      row.append(...data.columns.map((column, number) => {
        const place = number ? make("td") : make("th", { scope: "row" }, row.link);
        dress(place, column);
        return place;
      }));
      row.cells_of = [row.link, ...[...row.children].slice(1)];
      if (data.tickable) {
        row.tick = checkbox("", () => [told.id]);
        row.prepend(make("td", { className: "tick" }, make("label", {}, row.tick)));
      }
      box.rows.set(told.id, row);
    }
    const open = () => setTriggerValue("opened", told.id);
    row.link.href = told.href;
    row.link.onclick = (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      open();
    };
    row.onclick = (event) => {
      const root = box.getRootNode();  // where a browser keeps what is selected inside
      const selected = String((root.getSelection ? root : document).getSelection());
      if (!event.target.closest("a, label") && !selected) open();
    };
    told.cells.forEach((cell, number) => fill(row.cells_of[number], cell));
    row.tick?.setAttribute("aria-label", `Tick ${told.cells[0]}`);
    if (body.children[at] !== row) body.insertBefore(row, body.children[at] ?? null);
  });
  if (held && box.contains(held)) held.focus({ preventScroll: true });  // a row that was moved has lost it
  show_ticks();
}
"""
_STYLE = """
.box { overflow-x: auto; container-type: inline-size; border: 1px solid var(--st-border-color);
  border-radius: var(--st-base-radius, 0.375rem); font-size: 0.875rem; color: var(--st-text-color); }
table { border-collapse: collapse; width: 100%; }
th, td { padding: 0.45rem 0.6rem; text-align: left; font-weight: inherit; vertical-align: middle;
  overflow-wrap: anywhere; max-width: 22rem; }
thead { background: var(--st-secondary-background-color); }
thead th { font-weight: 600; white-space: nowrap; }
tbody tr { border-top: 1px solid var(--st-border-color); cursor: pointer; }
tbody tr:hover { background: var(--st-secondary-background-color); }
tbody tr.ticked { background: color-mix(in srgb, var(--st-primary-color) 12%, transparent); }
tbody th { min-width: 7rem; }
td.text { min-width: 6rem; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.short { white-space: nowrap; }
.tick { width: 1%; padding: 0; }
.tick label { display: grid; place-items: center; min-width: 2.5rem; min-height: 2.25rem; cursor: pointer; }
input { width: 1rem; height: 1rem; margin: 0; accent-color: var(--st-primary-color); cursor: pointer; }
a { color: var(--st-link-color); text-decoration: none; display: inline-block; line-height: 1.5rem; }
a:hover { text-decoration: underline; }
button { font: inherit; color: inherit; background: none; border: none; padding: 0; min-height: 1.5rem;
  cursor: pointer; }
[aria-sort] button::after { content: " \\2191" / ""; }
[aria-sort=descending] button::after { content: " \\2193" / ""; }
a:focus-visible, input:focus-visible, button:focus-visible { outline: 2px solid var(--st-primary-color);
  outline-offset: 2px; border-radius: 2px; }
svg { width: 6rem; height: 1.5rem; display: block; }
polyline { fill: none; stroke: var(--st-primary-color); stroke-width: 1.5; }
.icon { font-family: "Material Symbols Rounded"; font-size: 1.1rem; line-height: 1; width: 1.1rem; overflow: hidden;
  display: inline-block; vertical-align: text-bottom; margin-right: 0.3rem; white-space: nowrap; }
@container (max-width: 559px) { .from560 { display: none; } th, td { padding: 0.45rem 0.35rem; } }
@container (max-width: 839px) { .from840 { display: none; } }
@container (max-width: 1099px) { .from1100 { display: none; } }
"""
_element = st.components.v2.component("tunedeck.table", js=_DRAW, css=_STYLE)


@dataclass(frozen=True)
class Column:
    """A column. kind: "text", "short" (never broken), "number" or "curve"."""

    title: str
    kind: str = "text"
    from_px: int = 0
    """The table's width from which it is drawn: 0, 560, 840 or 1100."""
    sorts: bool = False


@dataclass(frozen=True)
class Mark:
    """A cell with a sign before its word. colour: one of Streamlit's, such as "green"."""

    word: str
    icon: str
    colour: str


Cell = str | Sequence[float] | Mark


@dataclass(frozen=True)
class Row:
    """One thing: its id, where it is opened, and a cell for each column; the first is its name."""

    id: str
    opens: Link
    cells: Sequence[Cell]


def draw_table(
    columns: Sequence[Column],
    rows: Sequence[Row],
    *,
    key: str,
    alt: str,
    sort: str = "",
    on_sort: Callable[[str], None] | None = None,
    ticked: Sequence[str] | None = None,
    turn: int = 0,
) -> list[str]:
    """Draw the table, or bring it up to date; open the page of a row that was clicked. Returns the ids ticked.

    sort: the title of the column that the rows are sorted by, "-" before it for descending. ticked: where rows can be
    ticked, those that are when `turn` is another than before. on_sort gets the title of a heading that was clicked.
    """

    def tell_sort() -> None:
        if on_sort is not None and (title := st.session_state[key].get("sorted")):
            on_sort(str(title))

    data = {
        "columns": [asdict(column) for column in columns],
        "rows": [
            {"id": row.id, "href": row.opens.address, "cells": [_wire(cell) for cell in row.cells]} for row in rows
        ],
        "alt": alt,
        "sort": sort,
        "tickable": ticked is not None,
        "ticked": list(ticked or ()),
        "turn": turn,
    }
    told: Mapping[str, Any] = _element(
        key=key,
        data=data,
        on_opened_change=lambda: None,
        on_sorted_change=tell_sort,
        on_ticked_change=lambda: None,
    )
    if opened := next((row for row in rows if row.id == told.get("opened")), None):
        opened.opens.go()
    now = told.get("ticked")
    return [str(each) for each in (ticked or () if now is None else now)]


def _wire(cell: Cell) -> Any:
    return asdict(cell) if isinstance(cell, Mark) else cell
