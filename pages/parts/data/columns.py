"""The columns of data as it was given: what each is used as, how far it is filled, and how to say otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import streamlit as st

from core import dataset as datasets
from core.dataset import ChatDataset, Column, Columns, Shape
from core.errors import BadInput
from pages.parts.data import forms, rows
from pages.parts.kit import words
from pages.parts.kit.action import action

_UNUSED, _MESSAGES = "not used", "messages"
_NAMED = 6
_SHOWN_CHARACTERS = 600


def draw(dataset: ChatDataset, preparation_id: str | None) -> None:
    """Draw the columns, what is not used of them, and the mapping. preparation_id: whose files can be read again."""
    shape, held = dataset.shape, datasets.read_columns(dataset)
    if shape is None or not shape.columns:  # no row could be read, which the findings say
        return
    st.header("Columns")
    st.text(words.visible(shape.words))
    if held is not None:
        _draw_table(shape, held)
    if preparation_id is not None and held is not None and held.first:
        _draw_mapping(shape, held, preparation_id)
    elif dataset.source != datasets.SAMPLE_SOURCE:
        st.caption("To have its columns read otherwise, choose where it comes from once more.")


def _draw_table(shape: Shape, held: Columns) -> None:
    columns = [_row(column, _use_of(shape, column.name), held.rows, "rows") for column in held.columns]
    keys = [_row(key, datasets.MESSAGE_KEYS.get(key.name, ""), held.messages, _MESSAGES) for key in held.keys]
    st.dataframe(columns + keys, hide_index=True, alt=f"{len(columns)} columns and {len(keys)} keys of messages")
    unused = [f'"{row["Column"]}" ({row["Filled in"]})' for row in columns + keys if row["Used as"] == _UNUSED]
    if unused:
        more = f" and {len(unused) - _NAMED} more" if len(unused) > _NAMED else ""
        st.text(words.visible(f"Not used: {', '.join(unused[:_NAMED])}{more}."))


def _row(column: Column, used_as: str, among: int, unit: str) -> dict[str, str]:
    share = column.filled / max(1, among)
    return {
        "Column": words.visible(column.name) + (" (of messages)" if unit == _MESSAGES else ""),
        "Used as": used_as or _UNUSED,
        "Filled in": f"{share:.0%} of {unit}" if share in (0, 1) or share >= 0.01 else f"{column.filled:,} {unit}",
        "Type": ", ".join(column.types),
        "Longest": words.number(column.longest) if column.longest else "",
        "Samples": " · ".join(words.visible(sample) for sample in column.samples),
    }


def _use_of(shape: Shape, column: str) -> str:
    parts = [datasets.PARTS.get(part, part) for part, used in shape.mapping.items() if used == column]
    return ", ".join(parts)


def _draw_mapping(shape: Shape, held: Columns, preparation_id: str) -> None:
    """Draw which column is what, and the first conversation that comes of it."""
    if shape.offer:
        action(shape.offer_words, _read_so, preparation_id, shape.offer, key="offer", icon="check")
    title = "Confirm which column is what" if not shape.sure else "Correct which column is what"
    with st.expander(title, expanded=not shape.sure or not shape.is_recognised, icon=":material/tune:"):
        names = [column.name for column in held.columns]
        with st.container(horizontal=True):
            chosen = {part: _draw_part(part, names, shape, preparation_id) for part in datasets.PARTS}
        # In the order of the form: whether a context stands above its question or below it.
        mapping = {part: column for part in {**shape.mapping, **chosen} if (column := chosen[part])}
        _draw_first(held, mapping)
        action("Read it so", _read_so, preparation_id, mapping, key="read-so", icon="sync")


def _draw_part(part: str, names: Iterable[str], shape: Shape, preparation_id: str) -> str:
    options = ["", *names]
    begun = shape.mapping.get(part, "")
    at = options.index(begun) if begun in options else 0
    key = f"map-{preparation_id}-{part}"
    return str(st.selectbox(datasets.PARTS[part], options, at, key=key, format_func=_or_none))


def _or_none(column: str) -> str:
    return column or "None"


def _draw_first(held: Columns, mapping: Mapping[str, str]) -> None:
    """Draw the first conversation as this mapping makes it."""
    if not _is_enough(mapping):
        st.caption("Choose a question and an answer, or a list of messages.")
        return
    row = datasets.read_first_as(held, mapping)
    st.caption("The first conversation, read so:")
    if row is None:
        st.text("It is left out.")
        return
    rows.draw_chat(row, _SHOWN_CHARACTERS)
    if not row.messages:
        st.text(words.visible(row.text[:_SHOWN_CHARACTERS]))


def _is_enough(mapping: Mapping[str, str]) -> bool:
    return "chat" in mapping or {"user", "assistant"} <= set(mapping)


def draw_encoding(preparation_id: str | None) -> None:
    """Draw the way to read a file in the encoding that it looks like, where that is not UTF-8."""
    if preparation_id is None or not (codec := datasets.read_preparation(preparation_id).looks_like):
        return
    label = f"Read it as {datasets.name_of(codec)}"
    action(label, _read_in, preparation_id, codec, key="read-encoding", icon="sync")


def _read_in(preparation_id: str, codec: str) -> None:
    forms.remember_again(preparation_id, datasets.read_again(preparation_id, encoding=codec))


def _read_so(preparation_id: str, mapping: Mapping[str, str]) -> None:
    if not _is_enough(mapping):
        raise BadInput("A question and an answer are needed.", "Or choose the column that holds the list of messages.")
    forms.remember_again(preparation_id, datasets.read_again(preparation_id, mapping))
