"""On a segment: every breakpoint and piece, and integrated gradients in closed form."""
