"""Synthetic stand-ins for the three data sets, written to disk in the layout and file formats of the originals."""
