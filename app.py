"""Tunedeck's dashboard: `streamlit run app.py`. The frame draws the menu, the page of this address, and the strip."""

if __name__ == "__main__":  # Streamlit runs this file as a script for each drawing of a page
    from pages.parts.kit import frame

    frame.draw()
else:  # and imports it once as the web server's application
    import streamlit as st
    from starlette.middleware import Middleware
    from streamlit.runtime.pages_manager import PagesManager

    from pages.parts.kit import assets
    from pages.parts.kit.elements.lost import NoDialogs

    # Else the first page is told "Page not found": Streamlit takes the folder pages/ for its old page discovery until
    # st.navigation was called once.
    PagesManager.uses_pages_directory = False
    app = st.App(__file__, routes=assets.ROUTES, middleware=[Middleware(NoDialogs)])
