"""PyTorch reference networks and their training loop. Torch is imported by the modules that need it, not here."""
