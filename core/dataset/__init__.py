"""Chat data: where it comes from, what is wrong with it, what its rows say, how it is repaired and sent.

The only door to this room. Behind it:

    comes from    sources: browser_files, allowed_files, hub, data_assets
    is prepared   preparation, workplace, worker
    is read       files/ as JSON lines, forms/ as conversations; reading, columns, split
    is checked    checks/; findings is the table of what can be found
    is kept       chat_dataset: store, report, set_aside, row_index
    is shown      row_pages, versions, languages; model/ as the chosen model has it
    is mended     repair, edits
"""

from __future__ import annotations

from core.dataset.allowed_files import list_files, list_folders
from core.dataset.browser_files import GivenFile, forget_given, is_kept, keep_given, remove_old_given
from core.dataset.chat_dataset import (
    ChatDataset,
    count_rows,
    find_dataset,
    find_tokenizer,
    list_datasets,
    list_length_findings,
    read_columns,
)
from core.dataset.checks.longer_checks import Checks, count_tokens_with, read_checks, start_checks
from core.dataset.columns import Column, Columns
from core.dataset.data_assets import (
    HASH_TAG,
    DataAsset,
    RegisteredData,
    UploadedData,
    hash_stored,
    list_assets,
    register_data,
    upload,
)
from core.dataset.edits import (
    Edit,
    add_answer,
    edit_row,
    find_answer,
    find_edit,
    leave_out,
    list_edited,
    list_edits,
    retype,
    row_to_edit,
    undo,
)
from core.dataset.files.encodings import name_of
from core.dataset.findings import KINDS, DataFile, Finding, Severity
from core.dataset.forms.row_shapes import MESSAGE_KEYS, PARTS, Shape
from core.dataset.languages import Languages, count_languages
from core.dataset.model.model_process import identify
from core.dataset.model.model_view import ModelView, Token, view_as_model
from core.dataset.model.token_counts import NO_TOKENIZER, read_lengths
from core.dataset.preparation import (
    Preparation,
    PreparationState,
    Preview,
    cancel_preparation,
    read_first_as,
    read_preparation,
    read_preview,
)
from core.dataset.repair import ASKED_FOR, REPAIRS, Effect, RowDiff, count_changes, list_changes, repaired_rows
from core.dataset.report import Report, Stats
from core.dataset.row_pages import (
    EVERY_ROW,
    Kept,
    Order,
    Page,
    Row,
    find_row,
    has_turns,
    read_page,
    read_rows,
    words_of,
)
from core.dataset.set_aside import may_be_set_aside, put_aside, take_back
from core.dataset.sources import (
    MAX_BROWSER_BYTES,
    SAMPLE_SOURCE,
    load_sample,
    read_again,
    start_asset,
    start_edited,
    start_hub,
    start_path,
    start_repair,
    start_upload,
    take_part,
)
from core.dataset.versions import Comparison, compare, find_latest, find_previous

__all__ = [
    "ASKED_FOR",
    "EVERY_ROW",
    "HASH_TAG",
    "KINDS",
    "MAX_BROWSER_BYTES",
    "MESSAGE_KEYS",
    "NO_TOKENIZER",
    "PARTS",
    "REPAIRS",
    "SAMPLE_SOURCE",
    "ChatDataset",
    "Checks",
    "Column",
    "Columns",
    "Comparison",
    "DataAsset",
    "DataFile",
    "Edit",
    "Effect",
    "Finding",
    "GivenFile",
    "Kept",
    "Languages",
    "ModelView",
    "Order",
    "Page",
    "Preparation",
    "PreparationState",
    "Preview",
    "RegisteredData",
    "Report",
    "Row",
    "RowDiff",
    "Severity",
    "Shape",
    "Stats",
    "Token",
    "UploadedData",
    "add_answer",
    "cancel_preparation",
    "compare",
    "count_changes",
    "count_languages",
    "count_rows",
    "count_tokens_with",
    "edit_row",
    "find_answer",
    "find_dataset",
    "find_edit",
    "find_latest",
    "find_previous",
    "find_row",
    "find_tokenizer",
    "forget_given",
    "has_turns",
    "hash_stored",
    "identify",
    "is_kept",
    "keep_given",
    "leave_out",
    "list_assets",
    "list_changes",
    "list_datasets",
    "list_edited",
    "list_edits",
    "list_files",
    "list_folders",
    "list_length_findings",
    "load_sample",
    "may_be_set_aside",
    "name_of",
    "put_aside",
    "read_again",
    "read_checks",
    "read_columns",
    "read_first_as",
    "read_lengths",
    "read_page",
    "read_preparation",
    "read_preview",
    "read_rows",
    "register_data",
    "remove_old_given",
    "repaired_rows",
    "retype",
    "row_to_edit",
    "start_asset",
    "start_checks",
    "start_edited",
    "start_hub",
    "start_path",
    "start_repair",
    "start_upload",
    "take_back",
    "take_part",
    "undo",
    "upload",
    "view_as_model",
    "words_of",
]
