"""Typed records of the store's documents: a resource is parsed when it is read, and is a document only in SQLite."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

from core.local.store import Document, Store


@dataclass(frozen=True, kw_only=True)
class Record:
    """What the store keeps of one resource. The names of the fields are those of the stored document."""

    KIND: ClassVar[str]
    """The kind of the documents in the store."""
    PARSERS: ClassVar[Mapping[str, Callable[[Any], Any]]] = {}
    """How fields are read that are more than JSON."""

    name: str
    created_at: str = ""
    modified_at: str = ""

    @property
    def key(self) -> str:
        """Return the key of the document."""
        return self.name

    @property
    def parent(self) -> str:
        """Return the parent of the document, "" for none."""
        return ""

    @classmethod
    def from_document(cls, document: Document) -> Self:
        """Parse a stored document; fields that it lacks have their defaults."""
        known = {each.name: cls.PARSERS.get(each.name) for each in fields(cls)}
        read = {name: value for name, value in document.items() if name in known}
        return cls(**{name: parse(value) if (parse := known[name]) else value for name, value in read.items()})

    def to_document(self) -> Document:
        """Return what is stored."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @classmethod
    def find(cls, store: Store, key: str) -> Self | None:
        """Return a record, or None."""
        document = store.get(cls.KIND, key)
        return None if document is None else cls.from_document(document)

    @classmethod
    def get(cls, store: Store, key: str) -> Self:
        """Return a record; raises WireError 404 ResourceNotFound."""
        return cls.from_document(store.require(cls.KIND, key))

    @classmethod
    def list_all(cls, store: Store, parent: str | None = None, limit: int | None = None) -> list[Self]:
        """Return all records, or those of one parent, the newest first."""
        return [cls.from_document(each) for each in store.list(cls.KIND, parent=parent, limit=limit)]

    @classmethod
    def update(cls, store: Store, key: str, change: Callable[[Self], Self | None]) -> Self:
        """Read, change and write a record in one transaction, as Store.update does."""

        def apply(document: Document) -> Document | None:
            changed = change(cls.from_document(document))
            return None if changed is None else changed.to_document()

        return cls.from_document(store.update(cls.KIND, key, apply))

    def put(self, store: Store) -> Self:
        """Create or replace the record; return it as it was stored."""
        return self.from_document(store.put(self.KIND, self.key, self.to_document(), parent=self.parent))

    def insert(self, store: Store) -> Self | None:
        """Create the record, or return None and change nothing when its key is taken."""
        document = store.insert(self.KIND, self.key, self.to_document(), parent=self.parent)
        return None if document is None else self.from_document(document)

    def delete(self, store: Store) -> None:
        """Remove the record."""
        store.delete(self.KIND, self.key)
