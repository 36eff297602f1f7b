"""PyTorch reference networks and their training. Only the modules that need torch import it."""
