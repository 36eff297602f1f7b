"""From a checkpoint to a verified artefact. The one room that needs torch and the reference networks."""
