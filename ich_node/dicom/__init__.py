"""DICOM as it comes from outside: files, headers, geometry, words, and what they mean for a head CT. Pure."""
