"""Delivery as HL7 messages over MLLP."""
