"""Config sections of the learner."""
