"""How a finished network errs on whole splits: measured and drawn once, at the end of the test."""
