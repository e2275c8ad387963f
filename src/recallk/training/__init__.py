"""Training: the plan, the sampler, the large batch in two passes, the trainer."""
