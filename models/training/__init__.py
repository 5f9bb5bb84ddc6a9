"""The training loop, its compiled step, and what happens around them."""
