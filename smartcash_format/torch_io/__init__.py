"""How do live objects become a checkpoint, and come back? The one room that needs torch."""

try:
    import torch as torch
except ModuleNotFoundError as absent:
    if absent.name != "torch":
        raise
    raise ModuleNotFoundError(
        "saving and loading live objects needs torch, which is not installed: "
        'pip install "smartcash-format[torch]"',
        name="torch",
    ) from None
