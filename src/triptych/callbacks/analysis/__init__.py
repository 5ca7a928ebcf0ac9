"""Error analysis of the trained network on whole splits, once at the end of the test: measures and figures."""
