"""What goes back to the PACS. Pure: an analysis in, datasets out."""
