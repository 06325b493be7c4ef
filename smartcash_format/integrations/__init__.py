"""How do other frameworks' checkpoints and hooks meet ours? Modules independent of one another."""
