"""ich_node: a DICOM triage node for intracranial hemorrhage on head CT. Research, not for diagnosis."""

__version__ = "0.1.0"
