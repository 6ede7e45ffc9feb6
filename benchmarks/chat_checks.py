"""`make bench`: how fast chat data is checked, beside what reading it costs at least, on one machine in one run.

    python -m benchmarks.chat_checks [--rows 20786] [--file big.jsonl] [--tokenizer folder]

Each measure runs in a process of its own, three times in turn with the others; the fastest counts, in processor seconds
where one core is meant and in wall seconds where an operator waits. --rows 207865 is ultrachat_200k's own size.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import chat_file

MEMORY_MIB = 400
REPEATS = 3
TEXT_ROWS = 10_000
TOKEN_ROWS = 1_500


def read_with_orjson(path: Path, _tokenizer: Path | None) -> dict[str, float]:
    import orjson

    with path.open("rb") as file:
        for line in file:
            orjson.loads(line)
    return {}


def read_with_pandas(path: Path, _tokenizer: Path | None) -> dict[str, float]:
    import pandas

    return {"rows": len(pandas.read_json(path, lines=True))}


def check_structure(path: Path, _tokenizer: Path | None) -> dict[str, float]:
    from core.dataset.checks.file_check import check_file

    report = check_file(path)
    if report.findings:
        raise ValueError(f"a clean file has findings: {report.findings}")
    return {"rows": report.rows}


def check_text(path: Path, _tokenizer: Path | None) -> dict[str, float]:
    from core.dataset.checks.row_check import check_rows

    rows = 0
    for lines in _batches(path, TEXT_ROWS):
        check_rows(lines)
        rows += len(lines)
    return {"rows": rows}


def check_template(path: Path, tokenizer: Path | None) -> dict[str, float]:
    import orjson

    from core.engine.chat_template import ChatTemplate, load_template, read_special

    assert tokenizer is not None
    template, rows = ChatTemplate(load_template(tokenizer), read_special(tokenizer)), 0
    for lines in _batches(path, TEXT_ROWS):
        for raw in lines:
            template.render(orjson.loads(raw)["messages"])
        rows += len(lines)
    return {"rows": rows}


def count_tokens(path: Path, tokenizer: Path | None) -> dict[str, float]:
    """Render every row with the model's template, and count its tokens, in the process that does so."""
    from core.dataset.model.token_counts import count_lines

    assert tokenizer is not None
    tokens = 0
    for lines in _batches(path, TOKEN_ROWS, 128):
        tokens += sum(counts[0] for counts in count_lines(tokenizer, lines) if isinstance(counts, tuple))
    return {"tokens": tokens}


def look(path: Path, _tokenizer: Path | None) -> dict[str, float]:
    """First rows and findings of a file that was never seen; then pages and searches of a checked one, in ms."""
    from core.dataset.checks.file_check import check_file
    from core.dataset.files.file_formats import read_first
    from core.dataset.preparation import preview_lines
    from core.dataset.row_pages import read_page

    first = _ms(lambda: preview_lines(read_first(path, path.name, 50)))
    rows = check_file(path).rows
    pages = [_ms(lambda at=at: read_page(path, at, 50)) for at in range(0, rows, max(1, rows // 20))]
    flagged = _ms(lambda: read_page(path, 0, 50, code="duplicate"))
    wanted = ("(17)", "nowhere to be found", "é")
    searches = [_ms(lambda text=text: read_page(path, 0, 50, text=text)) for text in wanted]
    return {"first": first, "page": max(*pages, flagged), "search": max(searches)}


def _ms(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return (time.perf_counter() - begun) * 1000


def _batches(path: Path, rows: int, size: int = 64) -> list[list[bytes]]:
    with path.open("rb") as file:
        lines = [line for _, line in zip(range(rows), file, strict=False)]
    return [lines[at : at + size] for at in range(0, len(lines), size)]


MEASURES: dict[str, Callable[[Path, Path | None], dict[str, float]]] = {
    "orjson": read_with_orjson,
    "structure": check_structure,
    "pandas": read_with_pandas,
    "text": check_text,
    "template": check_template,
    "tokens": count_tokens,
    "look": look,
}


def measure(name: str, path: Path, tokenizer: Path | None) -> None:
    """Run one measure, and print its seconds and its peak memory."""
    with tempfile.TemporaryDirectory() as folder:  # imports and the tokenizer's first use are not what is measured
        few = Path(folder) / "few.jsonl"
        with path.open("rb") as file:
            few.write_bytes(b"".join(file.readline() for _ in range(40)))
        MEASURES[name](few, tokenizer)
    begun, spent = time.perf_counter(), time.process_time()
    found = MEASURES[name](path, tokenizer)
    found |= {"s": time.perf_counter() - begun, "cpu_s": time.process_time() - spent}
    print(json.dumps(found | {"mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def _run(name: str, path: Path, tokenizer: Path | None) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.chat_checks", "--measure", name, "--file", str(path)]
    command += ["--tokenizer", str(tokenizer)] if tokenizer else []
    environment = os.environ | {"TOKENIZERS_PARALLELISM": "true"}
    ran = subprocess.run(command, stdout=subprocess.PIPE, env=environment, check=True)
    return dict(json.loads(ran.stdout.splitlines()[-1]))


def compare(path: Path, tokenizer: Path | None) -> bool:
    """Measure everything, print a table, and tell whether every bar is held."""
    names = [name for name in MEASURES if tokenizer or name not in ("template", "tokens")]
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for turn in range(REPEATS):
        for name in names:
            if name != "pandas" or turn == 0:  # slow, and never the tight one
                runs[name].append(_run(name, path, tokenizer))
    cpu = {name: min(one["cpu_s"] for one in some) for name, some in runs.items()}
    wall = {name: min(one["s"] for one in some) for name, some in runs.items()}
    shown = {key: min(one[key] for one in runs["look"]) for key in ("first", "page", "search")}
    ours = max(one["mib"] for name, some in runs.items() if name not in ("pandas", "orjson") for one in some)
    bars = [
        ("structural check, of orjson.loads's speed", cpu["orjson"] / cpu["structure"], 0.6, "higher"),
        ("structural check, times pandas.read_json's speed", cpu["pandas"] / cpu["structure"], 4.0, "higher"),
        ("looks at texts, rows/s", runs["text"][0]["rows"] / cpu["text"], 15_000, "higher"),
        ("first 50 rows and findings, ms", shown["first"], 1000, "lower"),
        ("a page, slowest of 21, ms", shown["page"], 300, "lower"),
        ("a search, slowest of 3, ms", shown["search"], 300, "lower"),
        ("peak memory, MiB", ours, MEMORY_MIB, "lower"),
    ]
    if tokenizer:
        bars[3:3] = [
            ("chat template, rows/s", runs["template"][0]["rows"] / cpu["template"], 15_000, "higher"),
            ("exact tokens/s, wall, all cores", runs["tokens"][0]["tokens"] / wall["tokens"], 300_000, "higher"),
        ]
    print("| measure | value | bar | |\n|---|---|---|---|")
    held = True
    for name, value, bar, better in bars:
        holds = value >= bar if better == "higher" else value <= bar
        held &= holds
        print(f"| {name} | {value:,.2f} | {bar:,} | {'' if holds else 'missed'} |")
    mb = path.stat().st_size / 1e6
    speeds = [
        f"{said} {mb / cpu[name]:,.0f} MB/s" for name, said in (("structure", "check"), ("orjson", "orjson.loads"))
    ]
    print(f"\n{mb:,.0f} MB: {', '.join(speeds)}.")
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}.")
    return held


def find_tokenizer() -> Path | None:
    """Return the tokenizer of the base model of this machine, where that is fetched."""
    from core import home

    found = sorted(home.current().base_models.glob("*/*/tokenizer.json"))
    return found[0].parent if found else None


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m benchmarks.chat_checks", description=__doc__)
    options.add_argument("--rows", type=int, default=chat_file.ROWS // 10)
    options.add_argument("--file", type=Path)
    options.add_argument("--tokenizer", type=Path)
    options.add_argument("--measure", choices=MEASURES)
    given = options.parse_args()
    if given.measure:
        measure(given.measure, given.file, given.tokenizer)
        return 0
    tokenizer = given.tokenizer or find_tokenizer()
    if given.file:
        return 0 if compare(given.file, tokenizer) else 1
    with tempfile.TemporaryDirectory(prefix="tunedeck-bench-") as folder:
        path = Path(folder) / "chat.jsonl"
        chat_file.write(path, given.rows)
        return 0 if compare(path, tokenizer) else 1


if __name__ == "__main__":
    sys.exit(main())
