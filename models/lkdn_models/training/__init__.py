"""Training from a recipe: the command `lkdn-train`, and `torchrun -m lkdn_models.training` for several processes."""
