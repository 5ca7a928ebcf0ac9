"""What Hydra finds by itself: how jobs are planned and launched."""
