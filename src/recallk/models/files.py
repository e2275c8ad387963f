"""The names of a saved model's files."""

FOLDER = "model"
"""In a run's folder; the others are in it."""
SETTINGS, WEIGHTS = "embedder.json", "weights.safetensors"
WHITENING = "whitening.safetensors"
"""Where one was fitted after training."""
EARLIER_WEIGHTS = "model.safetensors"
"""Where runs had their weights before there was such a folder; their settings are in `config.yaml`."""
