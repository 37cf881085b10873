"""The pictures of the README and of the page on the theory."""
