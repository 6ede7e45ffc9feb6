"""Chat data, all of it: sources, checks, rows, upload. What is behind each stands beside it; pages import this one."""

from __future__ import annotations

from core.dataset.chat_dataset import (
    ChatDataset,
    Row,
    count_tokens_with,
    find_dataset,
    find_row,
    find_rows,
    find_tokenizer,
    list_datasets,
    list_problem_lines,
    read_repaired,
    read_rows,
)
from core.dataset.check import Report, Stats, check_file
from core.dataset.rows import Problem
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
from core.dataset.upload import DataAssets, UploadedData, register_data, upload

__all__ = [
    "SAMPLE_SOURCE",
    "ChatDataset",
    "DataAssets",
    "Preparation",
    "Problem",
    "Report",
    "Row",
    "Stats",
    "UploadedData",
    "cancel_preparation",
    "check_file",
    "count_tokens_with",
    "find_dataset",
    "find_row",
    "find_rows",
    "find_tokenizer",
    "from_hub",
    "from_upload",
    "list_datasets",
    "list_problem_lines",
    "load_sample",
    "read_preparation",
    "read_repaired",
    "read_rows",
    "register_data",
    "start_hub",
    "start_upload",
    "upload",
]
