"""Launch: one summary, the settings with their origins, the checks, one button."""

import streamlit as st

from core import dataset
from pages.parts.kit import words
from pages.parts.kit.guard import end_page
from pages.parts.kit.links import link
from pages.parts.kit.notices import draw_empty, draw_loading
from pages.parts.tune import again
from pages.parts.tune import plan as parts
from pages.parts.tune.naming import draw_first_name
from pages.parts.tune.recipe import draw_recipe
from pages.parts.tune.rehearsal import draw_difference
from pages.parts.tune.several import draw_several
from pages.parts.tune.start import draw_ready

st.title("Launch", anchor=False)
draft = again.draw_or_get_setup()
if parts.draw_launched(draft):
    end_page()
again.draw_origin(draft)

if missing := parts.what_is_missing(draft):
    sentence, page, label = missing
    draw_empty(sentence, link(page), label)
    again.offer_last()
    end_page()

chosen = dataset.find_dataset(draft.dataset)
facts = {"dataset": chosen.name if chosen else draft.dataset}
snapshot = parts.read_current_plan(draft)
recipe = parts.find_recipe(draft, snapshot.value)

with st.expander(words.plain(f"Summary: {parts.summary_words(draft, facts)}"), icon=":material/summarize:"):
    st.text(f"Model: {draft.model}, version {draft.model_version or 'latest'}")
    st.text(f"Compute: {draft.compute}")
    if chosen:
        st.text(
            f"Data: {chosen.name}, {words.plural(chosen.rows, 'training row')}, "
            f"{words.plural(chosen.test_rows, 'test row')}"
        )
    with st.container(horizontal=True):
        link("model").draw("Change model or compute", icon="edit")
        link("data").draw("Change data", icon="edit")

with st.container():  # of their own, as in `frame._draw_page`: some of this comes late
    if recipe is not None:
        again.draw_changes(draft, recipe)
    gone = again.find_missing(draft, snapshot.error)
    for sentence, page, label in gone:
        draw_empty(sentence, link(page), label)
    if draft.whole:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.text("This is a part of a longer run, to try it first.")
            link("launch", draft=draft.whole).draw("Go to the whole", icon="arrow_forward")

left, right = st.columns([2, 1], gap="medium")
with left:
    if recipe is None and not gone:
        draw_loading("Reading the model's own settings…", (64, 64, 64, 64))
    elif recipe is not None:
        draw_first_name(draft)
        draw_recipe(draft, recipe)
        parts.draw_name(recipe, snapshot.value)
        draw_difference(draft, snapshot.value)
        parts.draw_script(snapshot.value)
        draw_several(draft, recipe)
with right:
    draw_ready(draft, snapshot)
