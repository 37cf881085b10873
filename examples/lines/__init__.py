"""What a network does between two digits: the figures of docs/lines-and-regions.md."""
