"""Every decision of the node, in a database."""
