"""Whether the split of templates by shells tells an answer by distance from one by direction: docs/volumes.md."""
