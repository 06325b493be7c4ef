"""Checkpoints as directories: safetensors weights, safe torch state, validated metadata."""

__version__ = "0.1.0"
