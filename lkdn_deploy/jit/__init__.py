"""Code for this machine's processor: written in LLVM's representation, compiled, and kept in the user's cache."""
