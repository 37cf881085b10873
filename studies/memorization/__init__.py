"""Do templates tell a network that memorized from one that learned? See docs/memorization.md."""
