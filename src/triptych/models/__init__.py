"""LightningModules: what is trained, by which loss, judged by which metrics."""
