"""A procedural head with hemorrhages and their look-alikes, as HU and as a DICOM series: for demo, tests and training."""
