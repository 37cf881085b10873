"""A published pitch tracker in its exact spline form: why it hears a pitch, and when the octave above it."""
