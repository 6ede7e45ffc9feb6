"""What exists in a workspace as a tree to tick: kind by kind, each deployment below its endpoint, a page at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import streamlit as st

from core.teardown import plan as teardown
from core.teardown.inventory import Inventory, Item
from core.words import duration
from pages.parts.kit import words

_GROUPS = {
    "endpoint": "Endpoints",
    "compute": "Clusters and instances",
    "model": "Models",
    "data": "Data",
    "run": "Job outputs",
}
_PER_PAGE = 15
_FILTERED_FROM = 8  # how many there are before it is worth filtering


@dataclass(frozen=True)
class Picks:
    """Keys of what is ticked, of the models whose files go too, and how many there are to tick."""

    keys: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    rows: int = 0


@dataclass(frozen=True)
class Node:
    """One thing with its parts: an endpoint with its deployments."""

    item: Item
    parts: tuple[Item, ...] = ()
    ticked: bool = False
    """Whether it is ticked before anybody has ticked it or not."""
    asked: str = ""
    """What the page was asked for: ticks that were set for something else do not count."""

    @property
    def whole(self) -> tuple[Item, ...]:
        """It and its parts."""
        return self.item, *self.parts

    def is_among(self, keys: Sequence[str]) -> bool:
        """Tell whether it or a part of it is named."""
        return any(item.key in keys for item in self.whole)

    @property
    def chosen(self) -> bool:
        """Whether it is ticked, be it drawn on this page or not."""
        return bool(st.session_state.get(self.box_of(self.item), self.ticked))

    def box_of(self, item: Item) -> str:
        """Return the key of the box of it or of a part."""
        return f"pick-{self.asked}{item.key}"


def draw_tree(inventory: Inventory, picked: Sequence[str]) -> Picks:
    """Draw what exists, with boxes to tick. picked: keys that were asked for: they alone are ticked, and come first."""
    nodes = _make_nodes(inventory, picked)
    shown = _filter(nodes, picked)
    gone = [key for key in picked if inventory.find(key) is None]
    if gone:
        st.text(f"'{', '.join(gone)}' does not exist here, or not any more.")
    if not shown:
        _draw_nothing(inventory)
    pages = -(-len(shown) // _PER_PAGE)
    at = min(int(st.session_state.get("tree-page", 1)), max(pages, 1))
    group = ""
    for node in shown[(at - 1) * _PER_PAGE : at * _PER_PAGE]:
        if node.item.kind != group and len({each.item.kind for each in shown}) > 1:
            group = node.item.kind
            st.subheader(_GROUPS.get(group, group), anchor=False)
        _draw_node(node)
    if pages > 1:
        st.pagination(pages, key="tree-page")
    _draw_hidden([node for node in nodes if node not in shown and node.chosen])
    keys = [key for node in shown for key in _picks_of(node)]
    files = tuple(key for key in keys if st.session_state.get(f"files-{key}"))
    return Picks(tuple(keys), files, len(shown))


def _make_nodes(inventory: Inventory, picked: Sequence[str]) -> list[Node]:
    """Return what exists, what was asked for first, then kind by kind."""
    kinds = [*_GROUPS]
    tops = [item for item in inventory.items if not item.parent and item.kind in kinds]
    nodes = [
        Node(
            item,
            tuple(part for part in inventory.items if part.parent == item.key),
            item.key in picked if picked else item.mine and item.bills,
            " ".join((*picked, "")),
        )
        for item in tops
    ]
    return sorted(nodes, key=lambda node: (not node.is_among(picked), kinds.index(node.item.kind)))


def _filter(nodes: list[Node], picked: Sequence[str]) -> list[Node]:
    many = len(nodes) > _FILTERED_FROM
    with st.container(horizontal=True, vertical_alignment="bottom"):
        options = ["Can bill", "Yours", "All"]
        what = st.segmented_control("Show", options, default="Can bill", required=True, key="what", bind="query-params")
        text = kind = owner = None
        if many:
            hint = "name, owner, run"
            text = st.text_input("Find", type="search", live=True, key="tree-find", width=220, placeholder=hint)
            kind = _choose("Kind", _GROUPS, _GROUPS)
            owners = sorted({part.owner for node in nodes for part in node.whole if part.owner})
            owner = _choose("Owner", owners, {}) if len(owners) > 1 else None

    def fits(item: Item) -> bool:
        held = f"{item.name} {item.version} {item.owner} {item.run} {item.state}".lower()
        return (not text or text.lower() in held) and (not owner or item.owner == owner)

    def within(node: Node) -> bool:
        return (
            node.is_among(picked)
            or what == "All"
            or any(part.bills if what == "Can bill" else part.mine for part in node.whole)
        )

    return [
        node
        for node in nodes
        if within(node) and (not kind or node.item.kind == kind) and any(fits(part) for part in node.whole)
    ]


def _choose(label: str, options: Iterable[str], names: Mapping[str, str]) -> str | None:
    chosen: str | None = st.selectbox(
        label,
        list(options),
        index=None,
        placeholder="All",
        format_func=lambda option: names.get(option, option),
        key=f"tree-{label.lower()}",
        width=200,
    )
    return chosen


def _draw_nothing(inventory: Inventory) -> None:
    if inventory.unread:
        st.text(f"What {' and '.join(inventory.unread)} exist here is not known.")
        return
    bills = st.session_state.get("what") == "Can bill"
    st.text(f"Nothing exists here that {'bills' if bills else 'this shows'}.")
    st.caption(f"Last checked {words.clock(inventory.read_at)}.")


def _draw_node(node: Node) -> None:
    with st.container(border=True, key=f"row-{node.item.key}", gap="small"):
        chosen = _draw_row(node.item, node.box_of(node.item), node.ticked, teardown.find_obstacle(node.item))
        for part in node.parts:
            with st.container(horizontal=True, gap="small"):
                st.space("medium")
                with st.container(gap="xsmall"):
                    goes = f"{'Ends' if part.kind == 'run' else 'Goes'} with {node.item.name}" if chosen else ""
                    _draw_row(part, node.box_of(part), chosen, goes or teardown.find_obstacle(part))


def _draw_row(item: Item, box: str, ticked: bool, off: str) -> bool:
    """Draw a box and what is known of the thing. box: its key. off: why it cannot be changed."""
    with st.container(horizontal=True, vertical_alignment="center"):
        name = words.plain(f"{item.short_name} v{item.version}" if item.version else item.short_name)
        key = f"{box}-{'on' if ticked else 'off'}" if off else box
        chosen = st.checkbox(name, ticked, key=key, disabled=bool(off), width="stretch", persist_state="page")
        st.text(" · ".join(filter(None, _facts(item))))
    run = f"run {item.run}" if item.run and item.kind != "run" else ""
    first = f"under way, and ended first: {', '.join(item.under_way)}" if item.under_way else ""
    if notes := " · ".join(filter(None, (off.rstrip("."), item.note, run, first))):
        st.caption(words.plain(notes))
    if chosen and item.kind == "model":
        _draw_files(item)
    return chosen and not off


def _facts(item: Item) -> Iterable[str]:
    yield item.compute or (item.kind if item.kind != "run" else "job" if item.bills else "job outputs")
    yield "" if item.state == "Succeeded" else item.state
    begun = item.created_at or item.since
    yield duration(words.since(begun)) if begun else ""
    if item.bills:
        yield item.hourly_words
        yield f"{item.cost.words} so far" if item.cost.amounts else ""
        yield f"deleted at {words.moment(item.delete_at)}" if item.delete_at else ""
    elif not item.standing:
        yield "free"
    yield words.size(item.bytes) if item.bytes else ""
    yield item.whose


def _draw_files(item: Item) -> None:
    size = f" ({words.size(item.bytes)})" if item.bytes else ""
    st.checkbox(
        f"Delete the files of {words.plain(item.name)} too{size}",
        key=f"files-{item.key}",
        help="Without this the model is archived: hidden, and kept.",
        persist_state="page",
    )


def _draw_hidden(nodes: Sequence[Node]) -> None:
    if nodes:
        names = ", ".join(node.item.name for node in nodes[:3]) + (" and others" if len(nodes) > 3 else "")
        st.caption(words.plain(f"Ticked, but not shown, so it stays: {names}."))


def _picks_of(node: Node) -> list[str]:
    """Return the keys that are ticked of a thing, on this page or another; with the whole its parts go, too."""
    if node.chosen and not teardown.find_obstacle(node.item):
        return [node.item.key]
    boxes = ((part, bool(st.session_state.get(node.box_of(part)))) for part in node.parts)
    return [part.key for part, ticked in boxes if ticked and not teardown.find_obstacle(part)]
