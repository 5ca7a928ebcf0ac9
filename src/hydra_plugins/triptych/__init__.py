"""Sweepers and launchers, discovered by Hydra as plugins: how jobs are planned and launched."""
