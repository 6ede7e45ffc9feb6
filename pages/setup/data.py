"""Data: know what is trained on before it costs."""

from functools import partial

import streamlit as st

from core import dataset as datasets
from pages.parts.data import checks, columns, compare, edits, findings, forms, numbers, repair, rows, source
from pages.parts.kit.guard import end_page
from pages.parts.kit.links import link
from pages.parts.kit.notices import draw_empty
from pages.parts.setup import choices

st.title("Data")
draft = choices.draw_or_get_draft()

dataset = source.draw(draft)
source.draw_use(draft, dataset)
if dataset is None:
    end_page()

columns.draw(dataset, source.find_preparation())

recipe, limit = numbers.read_recipe(draft)
found = (*dataset.findings, *datasets.list_length_findings(dataset, limit))
tokenizer = forms.find_tokenizer(draft)

numbers.draw_tiles(dataset, limit)
standing = tuple(finding for finding in found if not dataset.is_set_aside(finding))
for draw in (  # each in a place of its own: what is typed below is lost where something comes in before it
    partial(numbers.draw_cost, draft, dataset, recipe, limit),
    partial(checks.follow, dataset, tokenizer),
    partial(edits.draw, dataset, tokenizer),
    partial(findings.draw, dataset, found, limit),
    partial(columns.draw_encoding, source.find_preparation()),
    partial(repair.draw, dataset, standing, tokenizer),
    partial(compare.draw, dataset),
):
    with st.container():
        draw()
rows.draw(dataset, found, tokenizer, limit)

left, right = st.columns([2, 3], gap="medium")
with left:
    numbers.draw_lengths(dataset, limit)
with right:
    numbers.draw_contents(dataset)

if not draft.model:
    draw_empty("No model is chosen yet.", link("model"), "Go to Model & compute")
