"""Three deep-learning tasks, one house: denoise scanned pages, diagnose pneumonia, appraise houses."""
