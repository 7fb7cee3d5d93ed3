"""Copies of the mail: where they lie, how they are made, and how mail comes back from them."""
