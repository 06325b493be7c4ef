"""What a training loop holds: one object that saves, resumes, finds, keeps and tells."""

from smartcash_format.manager.checkpoint_manager import CheckpointManager

__all__ = ["CheckpointManager"]
