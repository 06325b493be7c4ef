"""What a person types: arguments in, text or JSON out, errors to exit codes."""
