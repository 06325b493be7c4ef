"""Which of these checkpoints? Many of them, found and chosen by their meta alone; no torch."""
