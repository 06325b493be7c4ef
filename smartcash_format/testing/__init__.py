"""Does my storage keep the promise? Fault injection and storage tests for users to run."""
