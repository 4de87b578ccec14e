"""What lessons show and ask: pictures that move, and exercises with their checks."""
