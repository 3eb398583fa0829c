"""Another ledger in the place of this one: what a worker needs of it is less than a page, and nothing else changes."""

from __future__ import annotations
