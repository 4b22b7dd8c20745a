"""Journals that older releases wrote, and the script that writes this one's."""
