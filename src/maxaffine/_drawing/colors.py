"""The colors of classes, told apart by readers with any common color blindness (Tol's muted scheme)."""

CLASSES = ("#332288", "#88ccee", "#44aa99", "#117733", "#999933", "#ddcc77", "#cc6677", "#882255", "#aa4499", "#bbbbbb")
# How far the areas of planes are mixed with white: those of classes, and bands of values on pages.
LIGHTER, LIGHTER_BANDS = 0.35, 0.15
