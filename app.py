"""Tunedeck's dashboard: `streamlit run app.py`. The frame draws the menu, the page of this address, and the strip."""

if __name__ == "__main__":  # Streamlit runs this file as a script for each drawing of a page
    from pages.parts.kit import frame

    frame.draw()
else:  # and imports it once as the web server's application
    import streamlit as st

    from pages.parts.kit import assets

    app = st.App(__file__, routes=assets.ROUTES)
