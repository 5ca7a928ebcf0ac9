"""From raw inputs to answers in the user's units: a trained model with all that stands around it, as one graph."""
