"""What is a checkpoint? Values and rules; no I/O, no clock, no torch."""
