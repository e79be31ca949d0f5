"""Pairs with a known truth, the training loop, frozen protocols and metrics."""
