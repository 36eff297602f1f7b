"""One file an engine. Each imports its engine only when an artefact is opened."""
