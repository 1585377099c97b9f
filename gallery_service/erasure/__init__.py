"""Erasing people from a site: everywhere at once, for good, and with proof."""
