"""What pages are built from: the only helpers that import Streamlit.

links.link("runs", run=name).draw("brave-otter")        every link; .go() opens it now
reads.read(index.list_runs, max_age_s=2) -> Snapshot    what the workspace says; never waits
notices.ready(snapshot, "Reading the runs…")            loading, failed and stale, drawn; True: use snapshot.value
action.action("Start run", fn, *args, key=, then=)      every button; what fails is a notice under it
live.live(draw, key=, run_every=2)                      the part that draws itself again
guard.end_page()                                        in the place of st.stop
state.ui(), state.url_id("run")                         what is open here, and what the URL names
words.plural(2, "run"), words.plain(text)               numbers as the screens write them; text without Markdown
"""
