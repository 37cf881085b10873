"""Do the frozen map, the tangent and other attributions of smooth networks differ? See docs/frozen-maps.md."""
