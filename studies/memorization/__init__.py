"""Do templates tell a network that memorised from one that learned? See docs/memorization.md."""
