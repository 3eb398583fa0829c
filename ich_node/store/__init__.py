"""Durable state: files in the spool, decisions in the database."""
