"""Three deep-learning tasks, one code base: denoise scanned pages, diagnose pneumonia, appraise houses."""
