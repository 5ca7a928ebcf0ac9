"""Graphs for export: a trained model with its pre- and post-processing, from raw inputs to answers in user units."""
