"""How the loss is computed: exact, streamed in blocks, in PyTorch and in Triton; each compared with `definition`."""
