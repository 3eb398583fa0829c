"""The triage board: a web page on what the store knows. Reads the store, writes nothing but its readers' feedback."""
