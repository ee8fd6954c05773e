"""Functions of one sample, run for a batch: the rules (`rules`), the walk that applies them, and `vmap` itself."""
