"""Which folder of the spool holds an instance: an index, so that nobody has to search for what a peer asks about.

It is made from the folders (receive/catalogue.py) and can be made again from them; what it says is true only where the
file is there. An instance is kept as the first eight bytes of the SHA-256 of its UID.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping

import sqlalchemy as sa

from ich_node.store.ledger.rows import Rows
from ich_node.store.ledger.tables import folder, held

Place = tuple[str, str]
"""Name of a folder of the state directory, and of one in it: ("incoming", Series Instance UID)."""
ASKED_TOGETHER = 500  # chosen: SQLite takes 32,766 values in a statement, PostgreSQL as many


class HeldRows(Rows):
    """See protocols.Index."""

    def listed(self) -> dict[Place, int]:
        """The folders that are in the index, and when each had been changed last, in ns, 0: look again."""
        with self._read() as db:
            return {(row.kind, row.name): row.modified_ns for row in db.execute(sa.select(folder))}

    def list_folders(self, found: Mapping[Place, tuple[int, Collection[str]]]) -> None:
        """Put folders into the index: place → (modified, SOP Instance UIDs in it)."""
        with self._write() as db:
            for (kind, name), (modified_ns, uids) in sorted(found.items()):  # in one order, whoever writes
                new = self._insert_new(folder).values(kind=kind, name=name, modified_ns=modified_ns)
                known = new.on_conflict_do_update(
                    index_elements=["kind", "name"], set_={"modified_ns": new.excluded.modified_ns}
                )
                number = db.execute(known.returning(folder.c.id)).scalar_one()
                if rows := [{"digest": digest(uid), "folder": number} for uid in sorted(set(uids))]:
                    db.execute(self._insert_new(held).on_conflict_do_nothing(), rows)

    def unlist(self, gone: Iterable[Place]) -> None:
        """Take folders out of the index."""
        with self._write() as db:
            for kind, name in gone:
                this = sa.select(folder.c.id).where(folder.c.kind == kind, folder.c.name == name).scalar_subquery()
                db.execute(sa.delete(held).where(held.c.folder == this))
                db.execute(sa.delete(folder).where(folder.c.kind == kind, folder.c.name == name))

    def places_of(self, sop_instance_uids: Collection[str]) -> dict[str, list[Place]]:
        """In which folders instances may lie, by SOP Instance UID."""
        by_digest = {digest(uid): uid for uid in sop_instance_uids}
        wanted, found = list(by_digest), dict[str, list[Place]]()
        with self._read() as db:
            for start in range(0, len(wanted), ASKED_TOGETHER):
                asked = held.c.digest.in_(wanted[start : start + ASKED_TOGETHER])
                query = sa.select(held.c.digest, folder.c.kind, folder.c.name).join(folder).where(asked)
                for row in db.execute(query):
                    found.setdefault(by_digest[row.digest], []).append((row.kind, row.name))
        return found


def digest(sop_instance_uid: str) -> int:
    """A UID as a number of 64 bits, signed as databases have them."""
    return int.from_bytes(hashlib.sha256(sop_instance_uid.encode()).digest()[:8], "big", signed=True)
