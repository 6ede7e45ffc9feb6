"""Connect: choose where work happens, and prove it before it is needed."""

import streamlit as st

from pages.parts.kit.state import url_id
from pages.parts.setup import connect as parts

st.title("Connect")

places = ("Local workspace", "Azure")
wanted = url_id("where") or ("Azure" if url_id("ws") else "Local workspace")
where = st.segmented_control(
    "Where the work happens", places, default=wanted if wanted in places else places[0], required=True, key="place"
)

if where == "Azure":
    parts.draw_azure()
else:
    parts.draw_local()
parts.draw_known()
