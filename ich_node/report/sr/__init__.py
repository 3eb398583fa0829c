"""Structured reports."""
