"""Timing sessions side by side, their memory, and the time that each kind of layer takes."""
