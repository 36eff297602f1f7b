"""The command ``lkdn-train``, as ``torchrun -m lkdn_models.training`` starts it."""

from lkdn_deploy.cli.train import main

main()
