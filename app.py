"""Tunedeck's dashboard: `streamlit run app.py`. The frame draws the menu, the page of this address, and the strip."""

from pages.parts.kit import frame

frame.draw()
