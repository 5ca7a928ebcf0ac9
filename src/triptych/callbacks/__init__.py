"""Lightning callbacks: measurements and figures during training, checkpoints and exact resuming, early ends."""
