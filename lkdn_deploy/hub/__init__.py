"""The one door to networks: a name, an ``.onnx`` file or a checkpoint becomes an artefact and an opened session."""
