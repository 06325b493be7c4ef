"""How does it look to a person? Entries and reports in, text or HTML out; no torch."""
