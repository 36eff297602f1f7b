"""The commands: parse, call, print, exit code. Everything heavy is imported inside a command, after its options."""
