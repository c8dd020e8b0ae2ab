"""Measurements of fastnn: against its peers, kernel by kernel, accuracy, and footprint."""
