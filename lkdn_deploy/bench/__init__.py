"""What a network costs: its operations counted, by the rules of the papers."""
