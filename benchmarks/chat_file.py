"""A chat file with ultrachat_200k's shape, made from a seed: sizes, turns and alphabet, no sentence of anyone.

    python -m benchmarks.chat_file out.jsonl --rows 20786

ultrachat_200k's train_sft has 207,865 rows of 6.3 kB on average, 2 to 14 messages (mostly 4 to 8), the user's short and
the assistant's long, a prompt and a prompt_id beside the messages; about one row in eight is not plain ASCII.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

ROWS = 207_865
_ONSETS = [
    "b",
    "c",
    "d",
    "f",
    "g",
    "h",
    "j",
    "k",
    "l",
    "m",
    "n",
    "p",
    "r",
    "s",
    "t",
    "v",
    "w",
    "st",
    "tr",
    "ch",
    "sh",
    "br",
]
_NUCLEI = ["a", "e", "i", "o", "u", "ai", "ea", "ou"]
_FOREIGN = ["café", "naïve", "Zürich", "señor", "“quoted”", "it’s", "—", "日本", "Привет", "🙂"]


def write(path: Path, rows: int, seed: int = 7) -> int:
    """Write a file; returns its bytes."""
    print(f"{rows:,} rows with seed {seed}")
    chance = random.Random(seed)
    pool = _pool(chance)
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            file.write(json.dumps(_row(chance, pool, number), ensure_ascii=False) + "\n")
        return file.tell()


def _pool(chance: random.Random) -> list[str]:
    """Return a long list of sentences, from which rows take slices: quick, and no two rows alike."""
    words = [
        "".join(chance.choice(_ONSETS) + chance.choice(_NUCLEI) for _ in range(chance.randint(1, 3)))
        for _ in range(8000)
    ]
    weights = [1 / (rank + 3) for rank in range(len(words))]
    drawn = chance.choices(words, weights, k=600_000)
    sentences, at = [], 0
    while at < len(drawn):
        length = chance.randint(5, 22)
        sentences.append(" ".join(drawn[at : at + length]).capitalize() + chance.choice([".", ".", ".", "?", ".\n\n"]))
        at += length
    return sentences


def _row(chance: random.Random, pool: list[str], number: int) -> dict[str, object]:
    messages = []
    foreign = chance.random() < 0.125
    for _ in range(chance.choice([1, 2, 2, 3, 3, 3, 4, 4, 5, 7])):
        messages.append({"content": _text(chance, pool, 220, foreign), "role": "user"})
        messages.append({"content": _text(chance, pool, 1370, foreign), "role": "assistant"})
    messages[0]["content"] += f" ({number})"
    return {"prompt": messages[0]["content"], "prompt_id": f"{chance.getrandbits(256):064x}", "messages": messages}


def _text(chance: random.Random, pool: list[str], mean: int, foreign: bool) -> str:
    wanted = max(20, int(chance.lognormvariate(0, 0.6) * mean * 0.85))
    at, parts, length = chance.randrange(len(pool) - 200), [], 0
    while length < wanted:
        parts.append(pool[at % len(pool)])
        length += len(parts[-1]) + 1
        at += 1
    if foreign:
        parts.insert(chance.randrange(len(parts) + 1), chance.choice(_FOREIGN))
    return " ".join(parts).strip()


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("path", type=Path)
    options.add_argument("--rows", type=int, default=ROWS)
    options.add_argument("--seed", type=int, default=7)
    given = options.parse_args()
    print(f"{write(given.path, given.rows, given.seed) / 1e6:,.0f} MB")
