"""The loss: the surrogate of recall@k and similarity mixup. Knows nothing of items, models or files."""
