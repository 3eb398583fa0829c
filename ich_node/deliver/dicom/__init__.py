"""Delivery over DICOM associations."""
