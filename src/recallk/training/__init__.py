"""Training: sampler, large batches, the loop, its configuration and checkpoints."""
