"""Data: know what is trained on before it costs."""

import streamlit as st

from pages.parts import data_source, data_view, setup
from pages.parts.action import action
from pages.parts.links import link
from pages.parts.notices import draw_empty, end_page

st.title("Data")
draft = setup.draw_or_get_draft()

dataset = data_source.draw(draft)
if dataset is None:
    end_page()

limit = data_view.read_limit(draft)
data_view.draw_tiles(dataset, limit)
data_view.draw_findings(dataset, limit)
left, right = st.columns([3, 2], gap="medium")
with left:
    data_view.draw_conversations(dataset)
with right:
    data_view.draw_lengths(dataset, limit)

    if not draft.model:
        draw_empty("No model is chosen yet.", link("model"), "Go to Model & compute")
    action(
        "Use this data", data_source.use, draft.id, dataset.key, key="use-data", type="primary", icon="arrow_forward",
        off=dataset.train.words, then=link("launch"), width="stretch",
    )  # fmt: skip
