"""The colors of classes, told apart by readers with any common color blindness (Tol's muted scheme)."""

CLASSES = ("#332288", "#88ccee", "#44aa99", "#117733", "#999933", "#ddcc77", "#cc6677", "#882255", "#aa4499", "#bbbbbb")
