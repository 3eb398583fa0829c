"""The deliver role: results to their destinations, with a ledger."""
