"""The safe repairs of a data set: what each changes, as a diff, and the repaired copy. The file itself stays."""

from __future__ import annotations

import difflib
from pathlib import Path

import streamlit as st

from core import dataset as datasets
from core.dataset import ASKED_FOR, REPAIRS, ChatDataset, DataFile, Effect, Finding, RowDiff
from core.errors import BadInput
from pages.parts.data import forms as data_forms
from pages.parts.kit import reads, words
from pages.parts.kit.action import action, draw_download
from pages.parts.kit.notices import ready

_SHOWN = 3
_MANY = 0.05  # of a file's rows; a repair that leaves out more is the operator's to choose
_DOWNLOADED_BYTES = 20_000_000  # a browser's download is made in memory


def draw(dataset: ChatDataset, findings: tuple[Finding, ...], tokenizer: Path | None) -> None:
    """Draw which findings can be mended, what that changes, and the repaired file."""
    mendable = [finding for finding in findings if finding.code in REPAIRS and finding.lines]
    codes = tuple(dict.fromkeys(finding.code for finding in mendable))
    if not codes:
        return
    with st.expander("Repair", icon=":material/build:", key="repairs"):
        st.text("A repair makes a copy. Rows that cannot be used are left out of it, what is safe to mend is mended.")
        made = reads.work("repairs", f"{dataset.key}:{','.join(codes)}", lambda: datasets.count_changes(dataset, codes))
        made = reads.keep_shown(f"repairs of {dataset.key}", made)
        if not ready(made, "Counting what each repair changes…", (), key="repairs"):
            return
        offered = tuple(code for code in codes if code in made.value)
        chosen = tuple(code for code in offered if _draw_choice(dataset, code, made.value[code]))
        if not chosen:
            st.text("Nothing is chosen.")
            return
        with st.container(horizontal=True):  # above the changes, which would push it away when they come
            action("Use a repaired copy", _apply, dataset, offered, tokenizer, key="repair", icon="content_copy")
            for file in dataset.files:
                _draw_download(dataset, chosen, file)
        of_training = any(finding.file == "train" for finding in mendable if finding.code in chosen)
        _draw_changes(dataset, chosen, "train" if of_training else "test")


def _draw_choice(dataset: ChatDataset, code: str, effect: Effect) -> bool:
    left_alone = ""
    if effect.share > _MANY:
        left_alone = f" Not ticked: it leaves out over {_MANY:.0%} of a file's rows."
    elif code in ASKED_FOR:
        left_alone = " Not ticked: such rows may be right as they are."
    does = f"changes {words.plural(effect.changed, 'row')}, leaves out {words.number(effect.left_out)}"
    label = f"{datasets.KINDS[code].title}: {does}. {REPAIRS[code]}{left_alone}"
    return bool(st.checkbox(words.plain(label), value=not left_alone, key=_box(dataset, code)))


def _box(dataset: ChatDataset, code: str) -> str:
    return f"mend-{dataset.key}-{code}"


def _draw_changes(dataset: ChatDataset, codes: tuple[str, ...], file: DataFile) -> None:
    made = reads.work(
        "changes", f"{dataset.key}:{file}:{','.join(codes)}", lambda: datasets.list_changes(dataset, codes, file)
    )
    if not ready(made, "Making the first changes…", (120,), key="changes"):
        return
    changes = made.value
    pages = max(1, -(-len(changes) // _SHOWN))
    at = st.pagination(pages, key=f"changes-page-{file}") if pages > 1 else 1
    for change in changes[(at - 1) * _SHOWN : at * _SHOWN]:
        titles = ", ".join(datasets.KINDS[code].title for code in change.codes)
        place = f"{dataset.unit_of(file)} {words.number(change.line)}"
        st.caption(words.plain(f"{place} · {titles}" + (" · left out" if change.after is None else "")))
        st.code(words.visible(describe_change(change)), language=None, wrap_lines=True)
    if len(changes) == 20:
        st.caption("The first 20 changes are shown. The copy has them all.")


def describe_change(change: RowDiff) -> str:
    """Return what goes, with "-", and what comes, with "+", with two lines round it."""
    before, after = change.before.splitlines(), (change.after or "").splitlines()
    lines = list(difflib.unified_diff(before, after, lineterm="", n=2))[2:]
    return "\n".join(line[:400] for line in lines[:60] if not line.startswith("@@"))


def _apply(dataset: ChatDataset, offered: tuple[str, ...], tokenizer: Path | None) -> None:
    """Make the copy with what is ticked at the click: the button was drawn before the last tick."""
    chosen = tuple(code for code in offered if st.session_state[_box(dataset, code)])
    if not chosen:
        raise BadInput("No repair is ticked.", "Tick what the copy is to have.")
    data_forms.remember_copy(datasets.start_repair(dataset, chosen, tokenizer))


def _draw_download(dataset: ChatDataset, codes: tuple[str, ...], file: DataFile) -> None:
    what, ending = ("file", "") if file == "train" else ("test file", "-test")
    if dataset.path_of(file).stat().st_size > _DOWNLOADED_BYTES:
        st.caption(f"The {what} is too large for a browser's download. Use the copy; it lies in the home folder.")
        return
    key = f"repaired{ending}"
    made = reads.work(
        key,
        f"{dataset.key}:{','.join(codes)}",
        lambda: b"".join(line + b"\n" for _, line in datasets.repaired_rows(dataset, codes, file)),
        alone=True,
    )
    if not ready(made, f"Making the repaired {what}…", (), key=key):
        return
    # Made before the click: Streamlit 1.67 forgets what a click makes when two ticks end before the browser fetches it.
    draw_download(f"Download the repaired {what}", made.value, f"{dataset.name}{ending}-repaired.jsonl", key=key)
