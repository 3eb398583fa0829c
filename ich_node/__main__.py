"""`python -m ich_node` is the same as `ich-node`."""

from ich_node.commands.cli import main

raise SystemExit(main())
