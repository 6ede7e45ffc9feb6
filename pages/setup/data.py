"""Data: know what is trained on before it costs."""

import streamlit as st

from core import dataset as datasets
from pages.parts import (
    data_checks,
    data_compare,
    data_findings,
    data_repair,
    data_rows,
    data_source,
    data_view,
    setup,
)
from pages.parts.action import action
from pages.parts.links import link
from pages.parts.notices import draw_empty, end_page

st.title("Data")
draft = setup.draw_or_get_draft()

dataset = data_source.draw(draft)
if dataset is None:
    end_page()

limit = data_view.read_limit(draft)
findings = (*dataset.findings, *datasets.list_length_findings(dataset, limit))
tokenizer = datasets.find_tokenizer(draft.model, draft.model_version) if draft.model else None

data_view.draw_tiles(dataset, limit)
data_checks.follow(dataset, tokenizer)
data_findings.draw(dataset, findings)
data_repair.draw(dataset, findings, tokenizer)
data_compare.draw(dataset)
data_rows.draw(dataset, findings, tokenizer, limit)

left, right = st.columns([2, 3], gap="medium")
with left:
    data_view.draw_lengths(dataset, limit)
with right:
    data_view.draw_contents(dataset)

if not draft.model:
    draw_empty("No model is chosen yet.", link("model"), "Go to Model & compute")
with st.container(horizontal_alignment="right"):
    action(
        "Use this data", data_source.use, draft.id, dataset.key, key="use-data", type="primary", icon="arrow_forward",
        off=dataset.words, then=link("launch"),
    )  # fmt: skip
