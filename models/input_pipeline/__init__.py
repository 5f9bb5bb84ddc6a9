"""From transformed examples on disk to batches of model inputs."""
