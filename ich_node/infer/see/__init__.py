"""From files to HU on a grid, and whether the model may look at them."""
