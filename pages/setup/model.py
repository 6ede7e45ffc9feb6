"""Model & compute: what is tuned, and on which machine."""

import streamlit as st

from pages.parts.setup import choices, model_drawer, model_finder
from pages.parts.setup import model as parts

st.title("Model & compute")
draft = choices.draw_or_get_draft()

main, rail = st.columns([3, 2], gap="medium")
with main:
    st.header("Base model")
    draft, model = model_finder.draw(model_drawer.leave_removed(draft))
    model_drawer.draw(draft, model)
    st.header("Compute")
    draft, verdict = parts.draw_computes(draft, model)
with rail:
    parts.draw_choice(draft, model, verdict)
