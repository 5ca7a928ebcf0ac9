"""One DataModule per data set, and what they share: base class, splits, downloads, synthetic stand-ins."""
