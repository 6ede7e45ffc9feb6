"""Chat data, all of it: sources, checks, rows, upload. What is behind each stands beside it; pages import this one."""

from __future__ import annotations

from core.dataset.analysis import Checks, count_tokens_with, read_checks, start_checks
from core.dataset.assets import DataAsset, list_assets
from core.dataset.changes import list_changes
from core.dataset.chat_dataset import (
    ChatDataset,
    find_dataset,
    find_tokenizer,
    list_datasets,
    list_length_findings,
    list_problem_lines,
    plan_repair,
    read_repaired,
    repaired_lines,
)
from core.dataset.check import Report, Stats, check_file
from core.dataset.findings import CODES, Finding
from core.dataset.languages import Languages, count_languages
from core.dataset.look import Page, Row, find_place, find_row, find_rows, read_page, read_rows
from core.dataset.model_process import identify
from core.dataset.model_view import ModelView, Token, view_as_model
from core.dataset.preparation import (
    Preparation,
    Preview,
    cancel_preparation,
    preview_lines,
    read_preparation,
    read_preview,
)
from core.dataset.progress import Progress
from core.dataset.repair import REPAIRABLE, RepairPlan, RepairStep, RowDiff
from core.dataset.rows import Problem
from core.dataset.server_files import list_files, list_folders
from core.dataset.shapes import PARTS, Shape
from core.dataset.sources import (
    MAX_BROWSER_BYTES,
    SAMPLE_SOURCE,
    from_hub,
    from_upload,
    load_sample,
    start_asset,
    start_hub,
    start_path,
    start_repair,
    start_upload,
)
from core.dataset.spool import GivenFile, forget_given, is_kept, keep_given, remove_old_given
from core.dataset.upload import DataAssets, UploadedData, register_data, upload
from core.dataset.versions import Comparison, compare, find_previous

__all__ = [
    "CODES",
    "MAX_BROWSER_BYTES",
    "PARTS",
    "REPAIRABLE",
    "SAMPLE_SOURCE",
    "ChatDataset",
    "Checks",
    "Comparison",
    "DataAsset",
    "DataAssets",
    "Finding",
    "GivenFile",
    "Languages",
    "ModelView",
    "Page",
    "Preparation",
    "Preview",
    "Problem",
    "Progress",
    "RepairPlan",
    "RepairStep",
    "Report",
    "Row",
    "RowDiff",
    "Shape",
    "Stats",
    "Token",
    "UploadedData",
    "cancel_preparation",
    "check_file",
    "compare",
    "count_languages",
    "count_tokens_with",
    "find_dataset",
    "find_place",
    "find_previous",
    "find_row",
    "find_rows",
    "find_tokenizer",
    "forget_given",
    "from_hub",
    "from_upload",
    "identify",
    "is_kept",
    "keep_given",
    "list_assets",
    "list_changes",
    "list_datasets",
    "list_files",
    "list_folders",
    "list_length_findings",
    "list_problem_lines",
    "load_sample",
    "plan_repair",
    "preview_lines",
    "read_checks",
    "read_page",
    "read_preparation",
    "read_preview",
    "read_repaired",
    "read_rows",
    "register_data",
    "remove_old_given",
    "repaired_lines",
    "start_asset",
    "start_checks",
    "start_hub",
    "start_path",
    "start_repair",
    "start_upload",
    "upload",
    "view_as_model",
]
