"""The lineage card: data, recipe, job, model, endpoint as a chain, each with the way to its page. Reads a snapshot."""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import quote, urlencode

import streamlit as st

from core import dataset as datasets
from core.azureml.connection import Connection
from core.recipe import BY_NAME
from core.serving.lineage import Kind, Piece, read_lineage
from pages.parts.kit import reads, words
from pages.parts.kit.action import draw_download
from pages.parts.kit.links import Link, link
from pages.parts.kit.notices import ready

_MAX_AGE_S = 60.0
_MOST_SETTINGS = 6
_ICONS = {
    Kind.DATA: "forum",
    Kind.RECIPE: "tune",
    Kind.JOB: "monitoring",
    Kind.MODEL: "deployed_code",
    Kind.ENDPOINT: "cloud_done",
}
# The facts that the card shows; the file has all.
_SHOWN = {
    Kind.DATA: ("rows",),
    Kind.RECIPE: ("GPUs",),
    Kind.JOB: ("state", "created by", "created at", "compute", "component"),
    Kind.MODEL: ("state", "created at"),
    Kind.ENDPOINT: ("state", "created at", "delete at"),
}
# Pages of Azure ML studio, below its address in the connection's cloud.
_STUDIO = {
    Kind.DATA: "data/{name}/{version}/details",
    Kind.JOB: "runs/{name}",
    Kind.MODEL: "model/{name}:{version}/details",
    Kind.ENDPOINT: "endpoints/realtime/{name}/detail",
}


def draw_lineage(*, run: str = "", endpoint: str = "") -> None:
    """Draw where a run or an endpoint stands in its chain, and the file with all of it."""
    conn = reads.find_connection()
    if conn is None:
        return
    st.header("Lineage", anchor=False)
    snapshot = reads.read(read_lineage, run, endpoint, max_age_s=_MAX_AGE_S)
    if not ready(snapshot, "Reading the lineage…", (160,), key="lineage"):
        return
    lineage = snapshot.value
    with st.grid(len(Kind), min_column_width=150, gap="small", key="lineage-card"):
        for kind in Kind:
            onward = "" if kind is Kind.ENDPOINT else " :material/arrow_forward:"
            with st.container(border=True, gap="xxsmall", height="stretch"):
                st.caption(f":material/{_ICONS[kind]}: {kind.capitalize()}{onward}")
                for piece in lineage.of(kind):
                    _draw_piece(conn, piece)
    for doubt in lineage.doubts:
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            st.badge("Note", icon=":material/info:", color="orange")
            st.text(words.visible(doubt), width="stretch")
    draw_download(
        "Lineage (JSON)",
        lineage.to_json(),
        f"lineage-{run or endpoint}.json",
        key="lineage-json",
        help="`python -m core.operations verify FILE.json` holds it against the workspace later.",
    )


def _draw_piece(conn: Connection, piece: Piece) -> None:
    lines = list(_list_lines(piece))
    target = _find_target(piece) if piece.exists else None
    title = words.visible(piece.title)
    if piece.kind is Kind.RECIPE and piece.exists:
        title = words.plural(len(json.loads(piece.facts["settings"])), "setting")
    if target is not None:
        target.draw(words.plain(title), width="stretch")
    elif title:
        lines.insert(0, title)
    if piece.kind is Kind.DATA and piece.exists and target is None:
        lines.append("Not in this home: deleted, or never here.")
    if lines:
        st.text(words.visible("\n".join(lines)))  # Markdown makes links of addresses, escaped or not
    if piece.kind in _STUDIO and piece.exists and not conn.cloud.is_local:
        st.link_button("Studio", _find_studio(conn, piece), type="tertiary", icon=":material/open_in_new:")


def _list_lines(piece: Piece) -> Iterator[str]:
    facts = piece.facts
    if piece.missing:
        yield piece.missing
    if content := facts.get("content hash"):
        yield f"content hash: {content[:12]}"  # of the data, which its files share
    if piece.kind is Kind.RECIPE and piece.exists:
        yield f"base model: {facts.get('base model', '').rpartition('/models/')[2].replace('/versions/', ' v')}"
        values = json.loads(facts["settings"])
        yield from (f"{BY_NAME[name].label}: {value}" for name, value in list(values.items())[:_MOST_SETTINGS])
    for name in [*_SHOWN[piece.kind], *(name for name in facts if name.endswith((": size", ": traffic")))]:
        if value := facts.get(name):
            yield f"{name}: {words.moment(value) if name.endswith(' at') else value}"
    if piece.files:
        yield f"{words.plural(len(piece.files), 'file')}, {words.size(piece.bytes)}"


def _find_target(piece: Piece) -> Link | None:
    """Return the page of a piece; None for data that this home has not."""
    if piece.kind is Kind.DATA:
        key = piece.facts.get("content hash", "")
        return link("data", data=key) if datasets.find_dataset(key) else None
    if piece.kind is Kind.ENDPOINT:
        return link("chat", endpoint=piece.name)
    if piece.kind is Kind.MODEL:
        return link("deploy", run=piece.facts.get("job"))
    return link("runs", run=piece.name, view="Settings" if piece.kind is Kind.RECIPE else None)


def _find_studio(conn: Connection, piece: Piece) -> str:
    """Return the address of a piece's page in Azure ML studio."""
    page = _STUDIO[piece.kind].format(name=quote(piece.name, safe=""), version=quote(piece.version, safe=""))
    asked = {"wsid": conn.workspace_path, "tid": conn.settings.tenant_id}
    return f"{conn.cloud.studio}/{page}?{urlencode({name: value for name, value in asked.items() if value})}"
