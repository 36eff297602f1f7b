"""What every room may use: errors, exit codes, the network's specification, artefact metadata. No dependencies."""
