"""The networks, one file a paper, and the blocks that they share."""
