"""What a person asks for, and what it comes to before any work."""
