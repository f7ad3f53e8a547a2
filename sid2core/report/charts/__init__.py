"""Charts as SVG: axes, marks, and labels that keep apart."""
