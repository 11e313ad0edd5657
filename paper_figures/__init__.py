"""Figures: a module each, which reads results only and draws `draw(data) -> figure, table of what it shows`."""
