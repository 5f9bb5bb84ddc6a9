"""Columns as read, and the typed values made of them."""
