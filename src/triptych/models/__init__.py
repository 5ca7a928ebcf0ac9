"""LightningModules: the network of each task with its loss, its metrics and its predictions."""
