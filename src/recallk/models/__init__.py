"""Models: backbone, pooling and head, as one embedder."""
