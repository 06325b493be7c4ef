"""Does my storage keep the promise? Fault injection and storage tests for users to run.

`python -m smartcash_format.testing` prints what was tried and what held: every call that changes a
directory, in every operation, killed and failed in turn. With `--on DIR` on the storage under DIR.
"""

from smartcash_format.testing.storage import Finding, StorageReport, storage_test

__all__ = ["Finding", "StorageReport", "storage_test"]
