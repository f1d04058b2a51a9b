"""Models in other formats, and from them."""
