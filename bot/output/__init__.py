"""A review as people and programs read it. Pure: a review in, text out."""
