"""One DataModule a data set, and what they share: bases, splits, downloads, synthetic stand-ins."""
