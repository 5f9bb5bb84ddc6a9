"""`lionctr compare`: optimizers on the same data, model and budget."""
