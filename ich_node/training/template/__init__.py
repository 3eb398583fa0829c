"""The standard head of infer/say/headspace.py."""
