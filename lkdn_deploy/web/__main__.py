"""The command that serves a folder, as ``python -m lkdn_deploy.web`` starts it."""

from lkdn_deploy.cli.web import main

main()
