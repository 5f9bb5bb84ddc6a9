"""`lionctr compare`: optimizers or models on the same data and budget."""
