"""The loss: the surrogate of recall@k and similarity mixup. Knows nothing of images, models or files."""
