"""What lessons show and ask: sliders over the plot functions, and exercises with their checks."""
