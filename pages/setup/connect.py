"""Connect: choose where work happens, and prove it before it is needed."""

from functools import partial

import streamlit as st

from pages.parts.kit import fields
from pages.parts.kit.state import set_url_id, url_id
from pages.parts.setup import connect as parts

st.title("Connect")

places = ("Local workspace", "Azure")
wanted = url_id("where") or ("Azure" if url_id("ws") else "Local workspace")
where = fields.place("place", wanted if wanted in places else places[0], places)
options = fields.follow(where, "The place", partial(set_url_id, "where"))
st.segmented_control("Where the work happens", places, default=where.value, required=True, **options)

if where.value == "Azure":
    parts.draw_azure()
else:
    parts.draw_local()
parts.draw_known()
