"""Chat data, all of it: sources, checks, rows, upload. What is behind each stands beside it; pages import this one."""

from __future__ import annotations

from core.dataset.analysis import Checks, read_checks, start_checks
from core.dataset.chat_dataset import (
    ChatDataset,
    count_tokens_with,
    find_dataset,
    find_tokenizer,
    list_datasets,
    list_length_findings,
    list_problem_lines,
    plan_repair,
    read_repaired,
    view_tokens,
)
from core.dataset.check import Report, Stats, check_file
from core.dataset.findings import CODES, Finding
from core.dataset.look import Page, Row, find_place, find_row, find_rows, read_page, read_rows
from core.dataset.progress import Progress
from core.dataset.repair import REPAIRABLE, RepairPlan, RepairStep, RowDiff
from core.dataset.rows import Problem
from core.dataset.shapes import PARTS, Shape
from core.dataset.sources import (
    SAMPLE_SOURCE,
    Preparation,
    cancel_preparation,
    from_hub,
    from_upload,
    load_sample,
    read_preparation,
    start_hub,
    start_upload,
)
from core.dataset.tokens import TemplateRefused, TokenPiece, TokenView
from core.dataset.upload import DataAssets, UploadedData, register_data, upload
from core.dataset.versions import Comparison, compare, find_previous

__all__ = [
    "CODES",
    "PARTS",
    "REPAIRABLE",
    "SAMPLE_SOURCE",
    "ChatDataset",
    "Checks",
    "Comparison",
    "DataAssets",
    "Finding",
    "Page",
    "Preparation",
    "Problem",
    "Progress",
    "RepairPlan",
    "RepairStep",
    "Report",
    "Row",
    "RowDiff",
    "Shape",
    "Stats",
    "TemplateRefused",
    "TokenPiece",
    "TokenView",
    "UploadedData",
    "cancel_preparation",
    "check_file",
    "compare",
    "count_tokens_with",
    "find_dataset",
    "find_place",
    "find_previous",
    "find_row",
    "find_rows",
    "find_tokenizer",
    "from_hub",
    "from_upload",
    "list_datasets",
    "list_length_findings",
    "list_problem_lines",
    "load_sample",
    "one",
    "plan_repair",
    "read_checks",
    "read_page",
    "read_preparation",
    "read_repaired",
    "read_rows",
    "register_data",
    "start_checks",
    "start_hub",
    "start_upload",
    "this",
    "upload",
    "view_tokens",
]
