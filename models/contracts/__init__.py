"""Demands on what a user's own may be in a training, as tests call them."""
