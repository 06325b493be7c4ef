"""Real runs, to be read and copied: `python -m examples.train_detector --help`."""
