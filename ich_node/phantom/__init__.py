"""A procedural head with hemorrhages and their look-alikes, as HU and as a DICOM series."""
