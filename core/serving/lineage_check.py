"""Holds a lineage that was kept against the workspace of today: each piece is the same, changed or gone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from core.azureml.connection import Connection
from core.azureml.datastore import File
from core.dataset import hash_stored
from core.errors import BadInput, TunedeckError
from core.serving.lineage import Kind, Lineage, Look, Piece

SAME, GONE = "same", "gone"


@dataclass(frozen=True)
class Claim:
    """One thing that a file says, and what became of it: "same", "changed: …", "gone" or "unknown: …"."""

    what: str
    outcome: str

    @property
    def holds(self) -> bool:
        """Whether it is so today."""
        return self.outcome == SAME


def check_lineage(conn: Connection, lineage: Lineage) -> Iterator[Claim]:
    """Yield a claim for each piece, for what ties it to its neighbours, and for the content of the data.

    Reads the data whole, to hash it again. Raises BadInput where the file claims nothing.
    """
    look, kept = Look(conn), [piece for piece in lineage.pieces if piece.exists]
    if not kept:
        raise BadInput("The lineage names nothing that existed.", "Take one of a run or of an endpoint.")
    for piece in kept:
        what = f"{piece.kind} {piece.title}"
        try:
            now = look.read(piece.kind, piece.name, piece.version)
        except TunedeckError as error:
            yield Claim(what, f"unknown: {error.message}")
            continue
        changes = [*_list_changes(piece, now), *_list_loose_ends(piece, lineage)] if now else []
        changed = f"changed: {'; '.join(changes)}" if changes else SAME
        yield Claim(what, changed if now else GONE)
    yield from _check_content(conn, lineage.of(Kind.DATA))


def _list_changes(kept: Piece, now: Piece) -> Iterator[str]:
    if kept.id.lower() != now.id.lower():
        yield f"id {kept.id} → {now.id}"
    for name in {**kept.facts, **now.facts}:
        before, after = kept.facts.get(name, "nothing"), now.facts.get(name, "nothing")
        if before != after:
            yield f"{name} {before} → {after}"
    if now.missing and kept.files:
        yield now.missing
    else:
        yield from _list_changed_files(kept.files, now.files)


def _list_changed_files(kept: Mapping[str, File], now: Mapping[str, File]) -> Iterator[str]:
    for path in sorted({**kept, **now}):
        before, after = kept.get(path), now.get(path)
        if before is None or after is None:
            yield f"file {path} is {'new' if before is None else 'gone'}"
        elif before.bytes != after.bytes:
            yield f"file {path} has {after.bytes:,} bytes, not {before.bytes:,}"
        elif before.md5 and after.md5:
            if before.md5 != after.md5:
                yield f"file {path} has other content"
        elif before.etag != after.etag:
            yield f"file {path} was written again"


def _list_loose_ends(piece: Piece, lineage: Lineage) -> Iterator[str]:
    """Say where the file's own pieces do not belong together, though each of them is there."""
    jobs = [job for job in lineage.of(Kind.JOB) if job.exists]
    names, models = {job.name for job in jobs}, {model.title for model in lineage.of(Kind.MODEL)}
    belongs = {
        Kind.DATA: any(piece.title in job.facts.values() for job in jobs),
        Kind.RECIPE: piece.name in names,
        Kind.JOB: True,
        Kind.MODEL: not names or piece.facts.get("job") in names,
        Kind.ENDPOINT: bool(models & set(piece.models())),
    }
    if not belongs[piece.kind]:
        yield "it does not belong to this chain"


def _check_content(conn: Connection, data: list[Piece]) -> Iterator[Claim]:
    """Hash the files of a data set as they lie in the datastore today."""
    claimed = {piece.facts["content hash"] for piece in data if "content hash" in piece.facts}
    paths = [path for piece in data for path in piece.files]
    if not claimed or not paths:
        return
    try:
        found = hash_stored(conn, paths)
    except TunedeckError as error:
        yield Claim("content of the data", f"unknown: {error.message}")
        return
    before = ", ".join(sorted(claimed))
    yield Claim("content of the data", SAME if claimed == {found} else f"changed: sha256 {before} → {found}")
